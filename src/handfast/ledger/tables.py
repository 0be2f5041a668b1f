"""The ledger's tables. Entries are the record of runs; runs and operations are what is looked up fast.

Circuits, notices, windows, budgets, kept results and drift are shared by all workers and belong to no run. Served calls are those that
a tool backend has carried out for others. Policies, keys and what people were told are the installation's.

Times are milliseconds since 1970 (UTC), money is millionths of a US dollar, both whole numbers, so that the same value
hashes the same on every database.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(255), primary_key=True),
    Column("chain_id", String(36), nullable=False),
    Column("execution", String(64), nullable=False, server_default=""),
    Column("agent", String(64), nullable=False),
    Column("agent_version", String(32), nullable=False, server_default=""),
    Column("model", String(128), nullable=False, server_default=""),
    Column("user", String(255), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("request_digest", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("trace_id", String(32), nullable=False, server_default=""),
    Column("contracts", Text, nullable=False, server_default="{}"),
    Column("branches", Text, nullable=False, server_default="[]"),
    Column("requested_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("head_seq", Integer, nullable=False, server_default="0"),
    Column("head_hash", String(64), nullable=False, server_default=""),
    Column("turns", Integer, nullable=False, server_default="0"),
    Column("calls", Integer, nullable=False, server_default="0"),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("cost_micros", BigInteger, nullable=False, server_default="0"),
    Column("undoing", String(36), nullable=False, server_default=""),
    Column("parent", String(255), nullable=False, server_default=""),
    Column("limits", Text, nullable=False, server_default=""),
    Column("turns_below", Integer, nullable=False, server_default="0"),
    Column("calls_below", Integer, nullable=False, server_default="0"),
    Column("labels", Text, nullable=False, server_default=""),
    Column("called_from", Text, nullable=False, server_default=""),
    Index("runs_requested_at", "requested_at"),
    Index("runs_parent", "parent"),
    Index("runs_chain", "chain_id"),
)

entries = Table(
    "entries",
    metadata,
    Column("run_id", String(255), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("ref", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("meta", Text, nullable=False),
    Column("salt", String(32)),
    Column("body", Text),
    Column("content_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("run_id", "kind", "ref", name="entries_once"),
)

operations = Table(
    "operations",
    metadata,
    Column("operation_id", String(36), primary_key=True),
    Column("run_id", String(255), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("call_id", String(128), nullable=False),
    Column("tool", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("effect", String(16), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("intent", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("approved", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("owner", String(36), nullable=False, server_default=""),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("turn_seq", Integer, nullable=False),
    Column("checkpoint_seq", Integer),
    Column("settled_seq", Integer),
    Column("receipt_seq", Integer),
    Column("left_by", Integer, nullable=False, server_default="0"),
    Column("undo", String(16), nullable=False, server_default=""),
    Column("undoes", String(36), nullable=False, server_default=""),
    Column("undoing", String(16), nullable=False, server_default=""),
    Column("asked_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger),
    Index("operations_of_run", "run_id", "left_by", "turn", "idx", unique=True),
    Index("operations_state", "state"),
)

circuits = Table(
    "circuits",
    metadata,
    Column("upstream", String(64), primary_key=True),
    Column("tenant", String(255), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("successes", Integer, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("probe_until", BigInteger, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("text", Text, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
)

windows = Table(
    "windows",
    metadata,
    Column("name", String(600), primary_key=True),
    Column("taken", Text, nullable=False),
)

generations = Table(
    "generations",
    metadata,
    Column("name", String(400), primary_key=True),
    Column("number", Integer, nullable=False),
)

cached = Table(
    "cached",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("name", String(400), nullable=False),
    Column("content", Text, nullable=False),
    Column("kept_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("cached_name", "name", "kept_at"),
    Index("cached_expires_at", "expires_at"),
)

drift = Table(
    "drift",
    metadata,
    Column("tool", String(64), primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("asked", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("invalid", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("mismatched", Integer, nullable=False),
)

served = Table(
    "served",
    metadata,
    Column("tool", String(64), primary_key=True),
    Column("ns", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("began_at", BigInteger, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("name", String(600), primary_key=True),
    Column("turns", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False, server_default="0"),
    Column("work_ms", BigInteger, nullable=False, server_default="0"),
    Column("holds", Text, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Index("budgets_ends_at", "ends_at"),
)

policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("by", String(255), nullable=False),
    Column("at", BigInteger, nullable=False),
)

notified = Table(
    "notified",
    metadata,
    Column("operation_id", String(36), primary_key=True),
    Column("step", String(32), primary_key=True),
    Column("run_id", String(255), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("error", Text, nullable=False, server_default=""),
    Index("notified_next_at", "next_at"),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("public", String(64), nullable=False),
    Column("roles", Text, nullable=False),
    Column("tenants", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("made_by", String(255), nullable=False),
    Column("revoked_at", BigInteger),
    Column("revoked_by", String(255), nullable=False, server_default=""),
)
