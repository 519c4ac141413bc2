-- One of every kind of object, under the most hostile names, in few rows: loads in a second into
-- an empty UTF-8 database of PostgreSQL 14 or newer, as a superuser, statement by statement.

-- In the order of their names, as a restore creates them: pg_dump lists the roles of a policy in
-- the order of their creation.
CREATE ROLE "-role 'with' ""quotes"", 100% a=b $HOME 🐘" LOGIN CONNECTION LIMIT 3;
CREATE ROLE "UPPER" CREATEDB;
CREATE ROLE "a.b" LOGIN VALID UNTIL '2099-12-31 00:00+00';
CREATE ROLE everything_owner NOLOGIN;
CREATE ROLE U&"two\000Alines" NOLOGIN;
GRANT everything_owner TO "a.b" WITH ADMIN OPTION;
GRANT pg_read_all_data TO "UPPER";
ALTER ROLE "a.b" SET search_path = "$user", 'odd, path';
COMMENT ON ROLE "UPPER" IS 'it''s 100% "quoted"';

-- Types, and what can be made of them.
CREATE SCHEMA kinds AUTHORIZATION everything_owner;
COMMENT ON SCHEMA kinds IS E'line one\nline two; \\! touch x';
CREATE TYPE kinds.mood AS ENUM ('so-so', 'it''s fine', '', 'Größe 🐘');
CREATE TYPE kinds.pair AS (a int, "B b" text);
CREATE TYPE kinds.float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN kinds.positive AS numeric(12, 2) DEFAULT 1 NOT NULL CHECK (VALUE > 0);
CREATE COLLATION kinds.plain (provider = libc, locale = 'C');
CREATE FUNCTION kinds.twice(value int) RETURNS int LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT value * 2 $$;
CREATE FUNCTION kinds."Add %"(a int, b int DEFAULT 5, OUT total int) LANGUAGE plpgsql
    SET search_path = pg_catalog AS $odd$ BEGIN total := a + b; /* $$ */ END $odd$;
CREATE PROCEDURE kinds.nothing() LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
CREATE AGGREGATE kinds.total (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE OPERATOR kinds.### (leftarg = int, rightarg = int, function = int4mul);
CREATE CAST (kinds.mood AS int) WITH FUNCTION pg_catalog.hashenum(anyenum);
CREATE TEXT SEARCH CONFIGURATION kinds.words (COPY = pg_catalog.english);
CREATE SEQUENCE kinds.countdown AS smallint INCREMENT BY -1 MAXVALUE 100 START WITH 100 CYCLE;
SELECT nextval('kinds.countdown');
CREATE SEQUENCE kinds.never_used;

-- Tables: identity, generated columns, defaults, foreign keys, triggers, rules, row security.
CREATE TABLE kinds.parent (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 3) PRIMARY KEY,
    mood kinds.mood NOT NULL DEFAULT 'so-so',
    price kinds.positive,
    gross numeric(12, 2) GENERATED ALWAYS AS (round(price * 1.19, 2)) STORED,
    pair kinds.pair,
    tags text[] DEFAULT '{}',
    tree jsonb,
    dropped int,
    name text COLLATE kinds.plain UNIQUE,
    span kinds.float_range
) WITH (fillfactor = 80);
INSERT INTO kinds.parent (mood, price, pair, tags, tree, name, span)
SELECT (enum_range(NULL::kinds.mood))[1 + n % 4], 1 + n / 7.0, ROW(n, 'b' || n)::kinds.pair,
       ARRAY['a' || n, NULL, '{'], jsonb_build_object('n', n, 'text', E'tab\t"quote" \\ newline\n'),
       'name ' || n, kinds.float_range(n, n + 0.5)
FROM generate_series(1, 3000) AS n;
ALTER TABLE kinds.parent DROP COLUMN dropped;
CREATE TABLE kinds.child (
    id serial PRIMARY KEY,
    parent bigint REFERENCES kinds.parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    self int REFERENCES kinds.child,
    note varchar(20) NOT NULL DEFAULT 'it''s' CHECK (note <> 'never')
);
INSERT INTO kinds.child (parent, self)
SELECT 1000 + 3 * n, NULLIF(n, 0) FROM generate_series(0, 2500) AS n;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE kinds.child ADD CONSTRAINT "not valid" CHECK (self <> 17) NOT VALID;
CREATE TABLE kinds.log (what text, at timestamptz);
CREATE FUNCTION kinds.noted() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO kinds.log VALUES (TG_TABLE_NAME, '2025-01-01'); RETURN NEW; END $$;
CREATE TRIGGER "noted, after" AFTER INSERT OR UPDATE OF mood ON kinds.parent
    FOR EACH ROW WHEN (NEW.price > 3) EXECUTE FUNCTION kinds.noted();
CREATE TRIGGER sleeping BEFORE INSERT ON kinds.child
    FOR EACH ROW EXECUTE FUNCTION kinds.noted();
ALTER TABLE kinds.child DISABLE TRIGGER sleeping;
INSERT INTO kinds.parent (price, name) VALUES (9, 'noted');
CREATE RULE kept AS ON DELETE TO kinds.log DO INSTEAD NOTHING;
ALTER TABLE kinds.parent ENABLE ROW LEVEL SECURITY;
ALTER TABLE kinds.parent FORCE ROW LEVEL SECURITY;
CREATE POLICY "only ""cheap"" ones" ON kinds.parent FOR SELECT TO "a.b", everything_owner
    USING (price < 100);
CREATE INDEX "an index, with a comma" ON kinds.parent (lower(name)) INCLUDE (price) WHERE price > 2;
CREATE INDEX parent_tree ON kinds.parent USING gin (tree jsonb_path_ops);
CREATE STATISTICS kinds.related (dependencies) ON mood, price FROM kinds.parent;
ALTER TABLE kinds.parent CLUSTER ON parent_pkey;
CREATE TABLE kinds.booking (room int, during daterange, EXCLUDE USING gist (during WITH &&));
INSERT INTO kinds.booking VALUES (1, '[2025-01-01,2025-01-05)'), (2, '[2026-01-01,infinity)');
CREATE TABLE kinds.heir (extra text) INHERITS (kinds.log);
INSERT INTO kinds.heir VALUES ('inherited', '2025-02-02', 'x');
CREATE UNLOGGED TABLE kinds.scratch AS SELECT n, md5(n::text) FROM generate_series(1, 500) AS n;
CREATE TABLE kinds.empty (id int PRIMARY KEY);
CREATE TABLE kinds.no_columns ();
INSERT INTO kinds.no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE kinds.edges (id int, f float8, n numeric, d date, t timestamptz, i interval, b bytea, x xml);
INSERT INTO kinds.edges VALUES
    (1, 'NaN', 'NaN', 'infinity', '-infinity', '178 years -3 mons 00:00:00.000001', '\x00ff', NULL),
    (2, '-Infinity', 1e-300, '4713-01-01 BC', '294276-12-31 23:59:59.999999+00', '-1 day', '', NULL);
INSERT INTO kinds.edges (id, b)
SELECT 3, string_agg(set_byte('\x00', 0, n), ''::bytea ORDER BY n) FROM generate_series(0, 255) AS n;

-- Every kind of index, and types within types.
CREATE TABLE kinds.nested (
    id int GENERATED BY DEFAULT AS IDENTITY,
    pairs kinds.pair[],
    prices kinds.positive[],
    spans kinds.float_range[],
    days datemultirange,
    place point,
    word text COLLATE "C",
    PRIMARY KEY (id) INCLUDE (word)
);
INSERT INTO kinds.nested (pairs, prices, spans, days, place, word)
SELECT ARRAY[ROW(n, '"' || n)::kinds.pair, NULL], ARRAY[n, 0.5], ARRAY[kinds.float_range(n, NULL, '(]')],
       datemultirange(daterange('2025-01-01', '2025-02-01'), daterange('2026-01-01', NULL)),
       point(n, -n), 'word ' || n
FROM generate_series(1, 400) AS n;
CREATE INDEX nested_hash ON kinds.nested USING hash (word);
CREATE INDEX nested_brin ON kinds.nested USING brin (id) WITH (pages_per_range = 8);
CREATE INDEX nested_spgist ON kinds.nested USING spgist (place);
CREATE INDEX nested_gist ON kinds.nested USING gist (place);
CREATE OPERATOR FAMILY kinds.backwards_family USING btree;
CREATE OPERATOR CLASS kinds.backwards FOR TYPE int USING btree FAMILY kinds.backwards_family AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
CREATE INDEX nested_backwards ON kinds.nested USING btree (id kinds.backwards DESC NULLS LAST);
ALTER TABLE kinds.nested ALTER word SET STATISTICS 500, ALTER pairs SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX nested_identity ON kinds.nested (id);
ALTER TABLE kinds.nested REPLICA IDENTITY USING INDEX nested_identity;
CREATE TABLE kinds.typed OF kinds.pair (a WITH OPTIONS PRIMARY KEY);
INSERT INTO kinds.typed VALUES (1, 'one');
COMMENT ON CONSTRAINT typed_pkey ON kinds.typed IS 'a "key"';
-- The test fills it with chance: larger than a pack takes, so that it is an object of its own.
CREATE TABLE kinds.bulk (block bytea);
ALTER TABLE kinds.bulk ALTER COLUMN block SET STORAGE EXTERNAL;

-- Partitions of partitions.
CREATE TABLE kinds.event (id bigint, day date NOT NULL, kind text NOT NULL, PRIMARY KEY (id, day, kind))
    PARTITION BY RANGE (day);
CREATE TABLE kinds.event_2024 PARTITION OF kinds.event
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE kinds.event_2025 PARTITION OF kinds.event
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (kind);
CREATE TABLE kinds.event_2025_a PARTITION OF kinds.event_2025 FOR VALUES IN ('a') PARTITION BY HASH (id);
CREATE TABLE kinds.event_2025_a0 PARTITION OF kinds.event_2025_a FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE kinds.event_2025_a1 PARTITION OF kinds.event_2025_a FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE kinds.event_2025_other PARTITION OF kinds.event_2025 DEFAULT;
CREATE TABLE kinds.event_other PARTITION OF kinds.event DEFAULT;
CREATE INDEX event_kind ON kinds.event (kind);
INSERT INTO kinds.event SELECT n, date '2023-11-01' + n % 900, chr(97 + n % 4)
FROM generate_series(1, 5000) AS n;
CREATE TRIGGER on_all_partitions AFTER UPDATE ON kinds.event
    FOR EACH ROW EXECUTE FUNCTION kinds.noted();

-- Views, each on the other.
CREATE VIEW kinds.cheap WITH (security_barrier) AS SELECT id, price FROM kinds.parent
    WHERE price < 50 WITH LOCAL CHECK OPTION;
CREATE VIEW kinds.cheapest AS SELECT * FROM kinds.cheap ORDER BY price LIMIT 3;
CREATE MATERIALIZED VIEW kinds.by_mood AS SELECT mood, count(*), sum(price) FROM kinds.parent GROUP BY mood;
CREATE UNIQUE INDEX by_mood_mood ON kinds.by_mood (mood);
CREATE MATERIALIZED VIEW kinds.on_top AS SELECT sum(count) FROM kinds.by_mood;
CREATE MATERIALIZED VIEW kinds.not_yet AS SELECT 1 AS one WITH NO DATA;
CREATE RECURSIVE VIEW kinds.numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 5;

-- Beside the tables.
CREATE FOREIGN DATA WRAPPER "no where" NO HANDLER;
CREATE SERVER far FOREIGN DATA WRAPPER "no where" OPTIONS ("a b" 'it''s');
CREATE USER MAPPING FOR everything_owner SERVER far OPTIONS (user 'nobody');
CREATE TEXT SEARCH DICTIONARY kinds.short (template = simple, stopwords = english);
ALTER TEXT SEARCH CONFIGURATION kinds.words ALTER MAPPING FOR asciiword WITH kinds.short, english_stem;
CREATE FOREIGN TABLE kinds.abroad (x int) SERVER far;
CREATE PUBLICATION "all, of it" FOR TABLE kinds.parent, kinds.child;
CREATE FUNCTION kinds.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RETURN; END $$;
CREATE EVENT TRIGGER "watch it" ON ddl_command_end WHEN TAG IN ('CREATE CAST')
    EXECUTE FUNCTION kinds.watch();
SELECT lo_from_bytea(7001, 'a large object'), lo_from_bytea(7002, ''),
       lo_from_bytea(7003, convert_to(repeat('a longer one. ', 40000), 'UTF8'));
COMMENT ON LARGE OBJECT 7001 IS 'scanned';
GRANT SELECT ON LARGE OBJECT 7002 TO "a.b";
ALTER LARGE OBJECT 7003 OWNER TO everything_owner;

-- Names that somebody, somewhere, has given.
CREATE SCHEMA "-schema ""x"", 'y' 100% a=b.c $HOME 🐘";
SET search_path = "-schema ""x"", 'y' 100% a=b.c $HOME 🐘";
CREATE TABLE "-rf" ("--help" int PRIMARY KEY, "%s%n" text, " space " text);
CREATE TABLE U&"two\000Alines" (U&"a\000Acolumn\0009with tab" text);
CREATE TABLE U&"\005Crestrict\000D\000A\005C! touch x" (x int);
CREATE TABLE "Robert'); DROP TABLE students;--" ("select" int, "SELECT" int, "ünïcode 🐘" text);
CREATE TABLE "a.b" ("c.d" int, "a=b" int, "$1" int);
CREATE TABLE "ab" (x int);
CREATE TABLE "UPPER" (x int);
CREATE TABLE "upper" (x int);
CREATE TABLE "::error::is no command" ("$(touch x)" text, "`id`" text, "a|b" text);
CREATE TABLE "../../etc/passwd" ("\" text DEFAULT '\', "$$" text DEFAULT '$$');
CREATE TABLE "a name as long as PostgreSQL allows, which is sixty-three bytes" (id int);
INSERT INTO "-rf" SELECT n, repeat('%', n), ' ' FROM generate_series(1, 100) AS n;
INSERT INTO U&"two\000Alines" VALUES (E'\\.'), (E'\\N'), (NULL), (''), (E'a\tb\nc\rd\\'), (E'\x01\x7f');
INSERT INTO "Robert'); DROP TABLE students;--" VALUES (1, NULL, '🐘'), (NULL, 2, E'\u202Eback to front');
INSERT INTO "::error::is no command" VALUES ('::set-output name=x::y', '::warning::', '||');
INSERT INTO "../../etc/passwd" DEFAULT VALUES;
CREATE INDEX "index ""of"" '%'" ON "-rf" ("%s%n");
CREATE VIEW U&"a view\000Aof it" AS SELECT "--help" AS "-- comment?" FROM "-rf";
COMMENT ON TABLE "-rf" IS E'line one\nline two; DROP TABLE "-rf";\n\\! rm -rf';
COMMENT ON COLUMN "a.b"."a=b" IS '::error::no command, ##[error] neither';
RESET search_path;

-- Who may do what.
ALTER DEFAULT PRIVILEGES FOR ROLE everything_owner IN SCHEMA kinds GRANT SELECT ON TABLES TO "a.b";
GRANT USAGE ON SCHEMA kinds TO "-role 'with' ""quotes"", 100% a=b $HOME 🐘", U&"two\000Alines";
GRANT SELECT (id, name), UPDATE (name) ON kinds.parent TO "a.b" WITH GRANT OPTION;
GRANT ALL ON kinds.child TO "-role 'with' ""quotes"", 100% a=b $HOME 🐘";
GRANT SELECT ON "-schema ""x"", 'y' 100% a=b.c $HOME 🐘".U&"two\000Alines" TO U&"two\000Alines";
REVOKE EXECUTE ON FUNCTION kinds.twice(int) FROM PUBLIC;
ALTER TABLE kinds.child OWNER TO everything_owner;
ALTER TABLE kinds.event OWNER TO "UPPER";
ALTER FUNCTION kinds.noted() OWNER TO "a.b";
