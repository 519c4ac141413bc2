-- The user that makes the backups: reads everything, and writes nothing. PostgreSQL 14 and newer.
--
-- Once in each database that is backed up, as an administrator (on RDS the master user), with psql;
-- again whenever you like, for it changes nothing that is right already:
--
--   psql "host=shop.abc123.eu-central-1.rds.amazonaws.com dbname=shop user=postgres sslmode=verify-full" \
--     -v login=iam -f database-access.sql
--
-- Variables, each as -v NAME=VALUE:
--
--   login           iam, a token of RDS in place of a password; or password, which is read from the
--                   environment's BACKUP_PASSWORD, so that no process list shows it. Needed.
--   backup_user     its name; backup without it.
--   restore_user    makes a second user as well, who restores into new databases; see the end.
--
-- BACKUP_PASSWORD is the field "password" of the secret. With log_statement = ddl the server writes
-- the statement to its log; the first rotation makes that worthless.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = notice;

\if :{?backup_user}
\else
  \set backup_user backup
\endif
\if :{?login}
\else
  \set login missing
\endif
SELECT :'login' = 'iam' AS by_iam, :'login' = 'password' AS by_password \gset

BEGIN;
-- What the blocks below read.
SELECT pg_catalog.set_config('pg_backup.reader', :'backup_user', true) AS reader,
       pg_catalog.set_config('pg_backup.login', :'login', true) AS login \gset told_

-- 1. The login.
SELECT pg_catalog.format('CREATE ROLE %I', :'backup_user')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'backup_user') \gexec
ALTER ROLE :"backup_user" LOGIN;

\if :by_iam
  -- Only RDS has the role; who is a member logs in by IAM alone, and no password is good any more.
  -- https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
  DO $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_iam') THEN
      RAISE EXCEPTION 'this server has no role rds_iam: it is not RDS, so log in by password'
        USING HINT = 'Use -v login=password.';
    END IF;
    EXECUTE pg_catalog.format('GRANT rds_iam TO %I', current_setting('pg_backup.reader'));
  END $$;
\elif :by_password
  \set password `printf %s "$BACKUP_PASSWORD"`
  SELECT :'password' = '' AS has_no_password \gset
  \if :has_no_password
    DO $$ BEGIN RAISE EXCEPTION 'the environment has no BACKUP_PASSWORD'; END $$;
  \endif
  ALTER ROLE :"backup_user" PASSWORD :'password';
\else
  DO $$ BEGIN RAISE EXCEPTION 'say how the user logs in: -v login=iam, or -v login=password'; END $$;
\endif

-- 2. What it reads: every schema, table, view and sequence, those of tomorrow too. That is more than
-- the data: outside RDS pg_authid as well, with the verifiers of all passwords. Guard this login like
-- the backups themselves.
-- https://www.postgresql.org/docs/current/predefined-roles.html
GRANT pg_read_all_data TO :"backup_user";
SELECT pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'backup_user')
WHERE NOT pg_catalog.has_database_privilege(:'backup_user', current_database(), 'CONNECT') \gexec

-- 3. Large objects, which pg_read_all_data leaves out: each that is there today.
DO $$
DECLARE
  reader text := current_setting('pg_backup.reader');
  reader_oid oid := (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = reader);
  knows_default boolean := current_setting('server_version_num')::int >= 180000;
  object oid;
  owner name;
  denied bigint := 0;
BEGIN
  FOR object IN
    SELECT l.oid FROM pg_catalog.pg_largeobject_metadata l
    WHERE NOT EXISTS (
      SELECT FROM pg_catalog.aclexplode(l.lomacl) granted
      WHERE granted.privilege_type = 'SELECT' AND granted.grantee = reader_oid
    )
    ORDER BY l.oid
  LOOP
    BEGIN
      EXECUTE pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %I', object, reader);
    EXCEPTION WHEN insufficient_privilege THEN
      denied := denied + 1;
    END;
  END LOOP;
  IF denied > 0 THEN
    RAISE WARNING '% large objects belong to others, and only their owners may grant them', denied
      USING HINT = 'Run this file as their owner too, or set lo_compat_privileges = on in the'
        ' parameter group, which lets everyone read and write them.';
  END IF;
  -- And those of tomorrow: from 18 on whoever makes some grants them from now on.
  FOR owner IN
    SELECT DISTINCT r.rolname FROM pg_catalog.pg_largeobject_metadata l
    JOIN pg_catalog.pg_roles r ON r.oid = l.lomowner ORDER BY 1
  LOOP
    IF NOT knows_default THEN
      RAISE WARNING 'large objects that are made from now on are not granted to %', reader
        USING HINT = 'Before PostgreSQL 18 no default can be set: run this file again, as each run'
          ' of the setup audit will tell, or set lo_compat_privileges = on.';
      EXIT;
    END IF;
    BEGIN
      EXECUTE pg_catalog.format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT ON LARGE OBJECTS TO %I', owner, reader);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'large objects that % makes from now on are not granted to %', owner, reader
        USING HINT = 'Run this file as that role too.';
    END;
  END LOOP;
END $$;

-- 4. Tables with row-level security: half a table is no backup, and pg_dump refuses it.
DO $$
DECLARE
  reader text := current_setting('pg_backup.reader');
  hidden text;
BEGIN
  SELECT pg_catalog.string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text)
  INTO hidden FROM pg_catalog.pg_class c WHERE c.relrowsecurity AND c.relkind IN ('r', 'p');
  IF (SELECT rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = reader) THEN
    RETURN;
  END IF;
  -- Before 16 only a superuser may give it; from then on who has it and CREATEROLE.
  EXECUTE pg_catalog.format('ALTER ROLE %I BYPASSRLS', reader);
EXCEPTION WHEN insufficient_privilege THEN
  -- RDS has no superuser to give it. A member of the owner sees all rows, and may write them.
  IF hidden IS NOT NULL THEN
    RAISE WARNING '% sees only some rows of %, and its backups will fail', reader, hidden
      USING HINT = 'You may not give BYPASSRLS. Either leave the tables out (exclude-tables), or grant'
        ' the user the role that owns them, which may write them too, and helps nothing where they have'
        ' FORCE ROW LEVEL SECURITY. A policy for the user does not help: pg_dump takes no table that has'
        ' policies for it.';
  END IF;
END $$;

-- 5. What it writes: nothing. It has been granted nothing that writes. PUBLIC may have been (in 14
-- everyone may make tables in schema public, and large objects everywhere), so with iam its transactions
-- begin read-only; who uses this login may undo that for a session, and then do what any login here may.
-- With password they do not: the function that rotates it logs in as the user and gives itself another
-- one, which PostgreSQL refuses in a read-only transaction, and the password would stay for ever.
\if :by_iam
  ALTER ROLE :"backup_user" SET default_transaction_read_only = on;
\else
  ALTER ROLE :"backup_user" RESET default_transaction_read_only;
\endif
DO $$
DECLARE
  reader text := current_setting('pg_backup.reader');
  may record;
BEGIN
  SELECT * INTO STRICT may FROM pg_catalog.pg_roles WHERE rolname = reader;
  IF may.rolsuper OR may.rolcreatedb OR may.rolcreaterole OR may.rolreplication THEN
    RAISE WARNING '% was there before, and may more than read (superuser, create databases or roles,'
      ' replicate)', reader USING HINT = 'Take another name, or take it away with ALTER ROLE.';
  END IF;
END $$;
COMMIT;

-- The user who restores into new databases (restore with create-database: true and no-owner: true,
-- or a drill's target). Apart from the one above, because it writes; it gets no right in any database
-- that is there. What it restores belongs to it.
\if :{?restore_user}
  BEGIN;
  SELECT pg_catalog.set_config('pg_backup.restorer', :'restore_user', true) AS restorer \gset told_
  SELECT pg_catalog.format('CREATE ROLE %I', :'restore_user')
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'restore_user') \gexec
  ALTER ROLE :"restore_user" LOGIN CREATEDB;
  \if :by_iam
    GRANT rds_iam TO :"restore_user";
  \else
    \set restore_password `printf %s "$RESTORE_PASSWORD"`
    SELECT :'restore_password' = '' AS has_no_password \gset
    \if :has_no_password
      DO $$ BEGIN RAISE EXCEPTION 'the environment has no RESTORE_PASSWORD'; END $$;
    \endif
    ALTER ROLE :"restore_user" PASSWORD :'restore_password';
  \endif
  COMMIT;
\endif
\echo 'Done. Now let operation audit with scope setup look at it as' :backup_user
