"""Every object that users made in a database, under the name that pg_dump would give it.

The kinds and tags are those of the dump functions in src/bin/pg_dump/pg_dump.c, the choice that
of selectDumpable…() there: nothing of the system, and nothing that belongs to an extension.
"""

from __future__ import annotations

import psycopg

from backup.model import ObjectName
from backup.postgres.connection import Connection
from backup.postgres.failures import target_failure

# What `objects_in` tells of. Not among them is what is no object of its own: owners, grants,
# comments, defaults of columns, attachments of partitions and indexes.
KINDS = frozenset(
    """ACCESS METHOD|AGGREGATE|CAST|CHECK CONSTRAINT|COLLATION|CONSTRAINT|CONVERSION|DOMAIN
    |EVENT TRIGGER|EXTENSION|FK CONSTRAINT|FOREIGN DATA WRAPPER|FOREIGN TABLE|FUNCTION|INDEX
    |MATERIALIZED VIEW|OPERATOR|OPERATOR CLASS|OPERATOR FAMILY|POLICY|PROCEDURAL LANGUAGE
    |PROCEDURE|PUBLICATION|PUBLICATION TABLE|RULE|SCHEMA|SEQUENCE|SERVER|STATISTICS|SUBSCRIPTION
    |TABLE|TEXT SEARCH CONFIGURATION|TEXT SEARCH DICTIONARY|TEXT SEARCH PARSER
    |TEXT SEARCH TEMPLATE|TRANSFORM|TRIGGER|TYPE|USER MAPPING|VIEW""".replace("\n    ", "").split(
        "|"
    )
)

# Names of types in tags are as format_type gives them where nothing is visible but pg_catalog.
_SETTINGS = "SELECT pg_catalog.set_config('search_path', '', true)"

# The largest oid of initdb: FirstNormalObjectId in src/include/access/transam.h.
_FIRST_USER_OID = 16384

# What lies in a schema: catalogue, its name, schema and oid columns, and the kind.
_IN_SCHEMAS = (
    ("pg_collation", "collname", "collnamespace", "'COLLATION'", "true"),
    ("pg_conversion", "conname", "connamespace", "'CONVERSION'", "true"),
    ("pg_operator", "oprname", "oprnamespace", "'OPERATOR'", "o.oprcode <> 0"),
    ("pg_opclass", "opcname", "opcnamespace", "'OPERATOR CLASS'", "true"),
    ("pg_opfamily", "opfname", "opfnamespace", "'OPERATOR FAMILY'", "true"),
    ("pg_statistic_ext", "stxname", "stxnamespace", "'STATISTICS'", "true"),
    ("pg_ts_config", "cfgname", "cfgnamespace", "'TEXT SEARCH CONFIGURATION'", "true"),
    ("pg_ts_dict", "dictname", "dictnamespace", "'TEXT SEARCH DICTIONARY'", "true"),
    ("pg_ts_parser", "prsname", "prsnamespace", "'TEXT SEARCH PARSER'", "true"),
    ("pg_ts_template", "tmplname", "tmplnamespace", "'TEXT SEARCH TEMPLATE'", "true"),
    (
        "pg_proc",
        # A function without arguments is f(), an aggregate of rows alone is a(*).
        """o.proname || '(' || CASE WHEN o.prokind = 'a' AND o.pronargs = 0 THEN '*' ELSE
           coalesce((SELECT string_agg(format_type(t.oid, NULL), ', ' ORDER BY t.place)
                     FROM unnest(o.proargtypes) WITH ORDINALITY t(oid, place)), '') END || ')'""",
        "pronamespace",
        "CASE o.prokind WHEN 'a' THEN 'AGGREGATE' WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END",
        "true",
    ),
    (
        "pg_type",
        "typname",
        "typnamespace",
        "CASE o.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END",
        # Not the types of rows, arrays and multiranges, which come with something else.
        """o.typtype <> 'm'
           AND (o.typrelid = 0
                OR (SELECT c.relkind FROM pg_class c WHERE c.oid = o.typrelid) = 'c')
           AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = o.oid)""",
    ),
)
# What lies in no schema.
_IN_NONE = (
    ("pg_am", "amname", "'ACCESS METHOD'"),
    (
        "pg_cast",
        """'CAST (' || format_type(o.castsource, NULL) || ' AS '
           || format_type(o.casttarget, NULL) || ')'""",
        "'CAST'",
    ),
    ("pg_event_trigger", "evtname", "'EVENT TRIGGER'"),
    ("pg_extension", "extname", "'EXTENSION'"),
    ("pg_foreign_data_wrapper", "fdwname", "'FOREIGN DATA WRAPPER'"),
    ("pg_foreign_server", "srvname", "'SERVER'"),
    ("pg_language", "lanname", "'PROCEDURAL LANGUAGE'"),
    ("pg_publication", "pubname", "'PUBLICATION'"),
    (
        "pg_transform",
        """'TRANSFORM FOR ' || format_type(o.trftype, NULL) || ' LANGUAGE '
           || (SELECT l.lanname FROM pg_language l WHERE l.oid = o.trflang)""",
        "'TRANSFORM'",
    ),
)

_USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _no_member(catalogue: str, types: str = "'e', 'i'") -> str:
    """Neither of an extension nor, like the constructors of a range, part of another object."""
    return f"""NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass
                           AND e.objid = o.oid AND e.objsubid = 0 AND e.deptype IN ({types}))"""


def _in_schema(catalogue: str, name: str, schema: str, kind: str, condition: str) -> str:
    name = name if " " in name else f"o.{name}"
    return f"""
SELECT {kind}, n.nspname, {name} FROM {catalogue} o JOIN pg_namespace n ON n.oid = o.{schema}
WHERE {_USER_SCHEMA} AND {condition} AND {_no_member(catalogue)}"""  # noqa: S608 - constants


def _in_none(catalogue: str, name: str, kind: str) -> str:
    name = name if " " in name else f"o.{name}"
    return f"""
SELECT {kind}, '', {name} FROM {catalogue} o
WHERE o.oid >= {_FIRST_USER_OID} AND {_no_member(catalogue)}"""  # noqa: S608 - constants


# The parts of tables are told where their table is.
_OBJECTS = f"""
WITH relation AS MATERIALIZED (
  SELECT o.oid, n.nspname, o.relname, o.relkind
  FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
  WHERE o.relkind IN ('r', 'p', 'f', 'm', 'v', 'S') AND {_USER_SCHEMA}
    -- The sequence of an identity column is part of its table, and yet an object in the dump.
    AND {_no_member("pg_class", "'e'")}
)
SELECT CASE relkind WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW'
                    WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
       nspname, relname::text FROM relation
UNION ALL
SELECT 'SCHEMA', '', o.nspname FROM pg_namespace o
WHERE {_USER_SCHEMA.replace("n.", "o.")} AND o.nspname <> 'public' AND {_no_member("pg_namespace")}
UNION ALL
SELECT 'INDEX', r.nspname, c.relname
FROM pg_index i JOIN relation r ON r.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid
WHERE (i.indisvalid OR r.relkind = 'p') AND i.indisready
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = i.indrelid
                  AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT CASE k.contype WHEN 'f' THEN 'FK CONSTRAINT' WHEN 'c' THEN 'CHECK CONSTRAINT'
                      ELSE 'CONSTRAINT' END, r.nspname, r.relname || ' ' || k.conname
FROM pg_constraint k JOIN relation r ON r.oid = k.conrelid
-- Checks and NOT NULL that hold are written with their table.
WHERE k.contype IN ('p', 'u', 'x') OR k.contype = 'f' AND k.conparentid = 0
   OR k.contype IN ('c', 'n') AND NOT k.convalidated AND k.conislocal
UNION ALL
SELECT 'CHECK CONSTRAINT', n.nspname, o.typname || ' ' || k.conname
FROM pg_constraint k JOIN pg_type o ON o.oid = k.contypid JOIN pg_namespace n ON n.oid = o.typnamespace
WHERE k.contype = 'c' AND NOT k.convalidated AND {_USER_SCHEMA} AND {_no_member("pg_type")}
UNION ALL
SELECT 'TRIGGER', r.nspname, r.relname || ' ' || t.tgname
FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid LEFT JOIN pg_trigger u ON u.oid = t.tgparentid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 OR t.tgenabled <> u.tgenabled
UNION ALL
SELECT 'RULE', r.nspname, r.relname || ' ' || w.rulename
FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class
WHERE NOT (w.rulename = '_RETURN' AND w.ev_type = '1' AND r.relkind IN ('v', 'm'))
UNION ALL
SELECT 'POLICY', r.nspname, r.relname || ' ' || p.polname
FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
UNION ALL
SELECT 'PUBLICATION TABLE', r.nspname, b.pubname || ' ' || r.relname
FROM pg_publication_rel p JOIN relation r ON r.oid = p.prrelid
JOIN pg_publication b ON b.oid = p.prpubid
UNION ALL
SELECT 'SUBSCRIPTION', '', s.subname FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid AND d.datname = current_database()
UNION ALL
SELECT 'USER MAPPING', '', 'USER MAPPING ' || m.usename || ' SERVER ' || m.srvname
FROM pg_user_mappings m
{"".join("UNION ALL" + _in_schema(*each) for each in _IN_SCHEMAS)}
{"".join("UNION ALL" + _in_none(*each) for each in _IN_NONE)}
"""  # noqa: E501, S608 - constants


def objects_in(connection: Connection) -> frozenset[ObjectName]:
    """The objects of the database, in pg_dump's words; also those that the login may not read.

    Extensions are among them, and what belongs to one is not; nor are the schema public and
    plpgsql, which every database has. Raises AccessError or DumpError.
    """
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(_SETTINGS)
            rows = connection.execute(_OBJECTS.encode()).fetchall()
    except psycopg.Error as error:
        raise target_failure(error, "reading what the target holds") from error
    return frozenset(ObjectName(kind, schema, name) for kind, schema, name in rows)
