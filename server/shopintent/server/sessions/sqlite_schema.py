"""The tables of a file of sessions, and how a file of an older version becomes one."""

from __future__ import annotations

VERSION = 2

EVENTS = """
CREATE TABLE event (
    visitor INTEGER NOT NULL,
    event_time INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    received_at REAL NOT NULL,
    event_type TEXT NOT NULL,
    product_id TEXT NOT NULL,
    category TEXT NOT NULL,
    search_query TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    attribution_token TEXT NOT NULL,
    PRIMARY KEY (visitor, event_time, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX event_by_id ON event (visitor, event_id) WHERE event_id <> ''
"""
OTHERS = """
CREATE TABLE store (
    -- Names this file among all that ever were.
    epoch TEXT NOT NULL,
    -- What tombstones are made with.
    secret BLOB NOT NULL,
    -- The newest number that an event, a join or a record was given.
    version INTEGER NOT NULL,
    -- Ids are never used again, so that an id and a version never name two histories.
    newest_visitor INTEGER NOT NULL,
    visitors INTEGER NOT NULL,
    -- All records up to this one are in the event log.
    logged INTEGER NOT NULL,
    -- At least as many records wait for it.
    waiting INTEGER NOT NULL
);
CREATE TABLE visitor (
    id INTEGER PRIMARY KEY,
    -- Above that of every visitor heard of earlier.
    version INTEGER NOT NULL,
    last_seen REAL NOT NULL,
    untrimmed INTEGER NOT NULL
);
CREATE INDEX visitor_by_version ON visitor (version);
-- This and the records are all that names anybody.
CREATE TABLE name (
    key TEXT PRIMARY KEY,
    visitor INTEGER NOT NULL,
    -- When the key was joined with the visitor, NULL for the visitor's own one.
    joined_at REAL
) WITHOUT ROWID;
CREATE INDEX name_by_visitor ON name (visitor, joined_at);
CREATE TABLE impression (
    visitor INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    received_at REAL NOT NULL,
    PRIMARY KEY (visitor, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX impression_by_id ON impression (visitor, event_id);
CREATE TABLE record (
    sequence INTEGER PRIMARY KEY,
    -- -1 where an event is taken back.
    weight INTEGER NOT NULL,
    received_at REAL NOT NULL,
    -- A pseudonym, empty for what is only counted.
    shopper TEXT NOT NULL,
    event_type TEXT NOT NULL,
    event_time INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    category TEXT NOT NULL,
    search_query TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    attribution_token TEXT NOT NULL,
    -- Lists of JSON, or empty.
    experiment_ids TEXT NOT NULL,
    shown_product_ids TEXT NOT NULL,
    alias TEXT NOT NULL
);
CREATE TABLE tombstone (digest BLOB PRIMARY KEY, deleted_at REAL NOT NULL) WITHOUT ROWID
"""

SCHEMA = f"""{EVENTS};{OTHERS};
INSERT INTO store VALUES (lower(hex(randomblob(8))), randomblob(32), 0, 0, 0, 0, 0)
"""

FROM_1 = f"""
DROP INDEX visitor_by_version;
ALTER TABLE visitor RENAME TO former;
{OTHERS};
INSERT INTO visitor SELECT id, version, last_seen, untrimmed FROM former;
INSERT INTO name SELECT key, id, NULL FROM former;
INSERT INTO store SELECT lower(hex(randomblob(8))), randomblob(32),
    coalesce(max(version), 0), coalesce(max(id), 0), count(*), 0, 0 FROM former;
DROP TABLE former;
DROP TABLE totals
"""

MIGRATIONS = {1: FROM_1}
