"""The first twelve migrations, which never change: ledgers have applied them.

The newer ones are in ``schema.py``.
"""

from __future__ import annotations

_VERSION_1 = (
    """
    CREATE TABLE immunos_mcp_schema_version (
        -- The steps that were applied to this file, the newest being its version.
        version INTEGER PRIMARY KEY,
        applied_at TEXT NOT NULL  -- UTC, ISO 8601
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS settings (
        -- What somebody set; a key that is not here has its default.
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL,      -- plain text; JSON for task_mappings
        updated_at TEXT NOT NULL  -- UTC, ISO 8601
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_setting_change (
        -- Every change of a setting through this program.
        change_id INTEGER PRIMARY KEY,
        changed_at TEXT NOT NULL,  -- UTC, ISO 8601
        client TEXT NOT NULL,      -- the program that asked, as it names itself
        setting TEXT NOT NULL,     -- key in settings
        value_before TEXT,         -- stored text; NULL: was not set
        value_after TEXT           -- stored text; NULL: no longer set
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_policy (
        -- Every set of effective settings that decided something, so that a decision can be replayed.
        policy_id INTEGER PRIMARY KEY,
        settings TEXT NOT NULL UNIQUE,  -- all settings as canonical JSON
        first_used_at TEXT NOT NULL     -- UTC, ISO 8601
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_session (
        -- Budget sessions with running totals, kept in the transaction of each usage record.
        session_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        started_at TEXT NOT NULL,  -- UTC, ISO 8601
        ended_at TEXT,             -- NULL while open
        end_reason TEXT,           -- why it was closed, where somebody said
        -- Sums over the usage records of Claude, which count towards the budget by weight ...
        claude_input_tokens INTEGER NOT NULL DEFAULT 0,
        claude_output_tokens INTEGER NOT NULL DEFAULT 0,
        claude_cache_creation_input_tokens INTEGER NOT NULL DEFAULT 0,
        claude_cache_read_input_tokens INTEGER NOT NULL DEFAULT 0,
        -- ... and of local models, which do not.
        local_input_tokens INTEGER NOT NULL DEFAULT 0,
        local_output_tokens INTEGER NOT NULL DEFAULT 0,
        local_cache_creation_input_tokens INTEGER NOT NULL DEFAULT 0,
        local_cache_read_input_tokens INTEGER NOT NULL DEFAULT 0,
        usage_records INTEGER NOT NULL DEFAULT 0,
        pace_tokens REAL NOT NULL DEFAULT 0,  -- decaying sum of budget tokens ...
        pace_at TEXT                          -- ... as of this moment, UTC, ISO 8601
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX immunos_mcp_session_open
        ON immunos_mcp_session (name) WHERE ended_at IS NULL
    """,
    """
    CREATE TABLE immunos_mcp_session_reason (
        -- How many decisions of a session each reason accounts for.
        session_id INTEGER NOT NULL REFERENCES immunos_mcp_session (session_id),
        reason TEXT NOT NULL,
        decisions INTEGER NOT NULL,
        PRIMARY KEY (session_id, reason)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_decision (
        -- Every routing decision with all that it was made from.
        decision_id INTEGER PRIMARY KEY,
        session_id INTEGER NOT NULL REFERENCES immunos_mcp_session (session_id),
        policy_id INTEGER NOT NULL REFERENCES immunos_mcp_policy (policy_id),
        decided_at TEXT NOT NULL,         -- UTC, ISO 8601
        task_type TEXT NOT NULL,          -- lower snake case
        classification TEXT NOT NULL,     -- routine, creative, critical
        estimated_tokens INTEGER,         -- NULL: not given
        session_tokens INTEGER NOT NULL,  -- budget tokens of the session at that moment
        model TEXT NOT NULL,
        provider TEXT NOT NULL,           -- claude, ollama
        reason TEXT NOT NULL,             -- the policy's row
        warning_level TEXT NOT NULL,      -- normal, warning, critical
        outcome TEXT,                     -- success, failure; NULL: not known
        closed_at TEXT                    -- UTC, when the outcome became known
    ) STRICT
    """,
    """
    CREATE INDEX immunos_mcp_decision_session ON immunos_mcp_decision (session_id)
    """,
    """
    CREATE TABLE immunos_mcp_usage (
        -- One row for each model response.
        usage_id INTEGER PRIMARY KEY,
        session_id INTEGER NOT NULL REFERENCES immunos_mcp_session (session_id),
        recorded_at TEXT NOT NULL,  -- UTC, ISO 8601
        model TEXT NOT NULL,
        provider TEXT NOT NULL,     -- claude, ollama
        source TEXT NOT NULL,       -- who said so: reported (a client's record_usage)
        external_id TEXT,           -- the response's own id, where it has one
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        decision_id INTEGER REFERENCES immunos_mcp_decision (decision_id)
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX immunos_mcp_usage_external
        ON immunos_mcp_usage (external_id) WHERE external_id IS NOT NULL
    """,
)

_VERSION_2 = (
    """
    CREATE TABLE immunos_mcp_measured_usage (
        -- What a client wrote down itself: each response once, with the largest total seen for it.
        message_id TEXT PRIMARY KEY,
        measured_at TEXT NOT NULL,  -- UTC, ISO 8601: decides which sessions it counts in
        model TEXT NOT NULL,
        provider TEXT NOT NULL,     -- claude, ollama
        folder TEXT,                -- project folder; NULL: not known
        request_id TEXT,            -- of the API request; NULL: not known
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_transcript (
        -- How far each transcript was read, for all processes.
        path TEXT PRIMARY KEY,
        inode INTEGER NOT NULL,
        size INTEGER NOT NULL,           -- when last read to the end; -1: reading under way
        modified_ns INTEGER NOT NULL,    -- modification time then, in nanoseconds
        read_bytes INTEGER NOT NULL,
        tail_checksum INTEGER NOT NULL,  -- CRC-32 of the last bytes read
        unread_lines INTEGER NOT NULL    -- lines with usage that could not be read
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE INDEX immunos_mcp_transcript_unread
        ON immunos_mcp_transcript (unread_lines) WHERE unread_lines > 0
    """,
    """
    CREATE TABLE immunos_mcp_binding (
        -- Session names that count the measured usage of one project folder alone.
        session_name TEXT PRIMARY KEY,
        folder TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_plan_usage (
        -- The subscription's own limits, as the status line was last told.
        plan_window TEXT PRIMARY KEY,   -- five_hour, seven_day
        used_percentage REAL NOT NULL,
        resets_at TEXT NOT NULL,        -- UTC, ISO 8601
        reported_at TEXT NOT NULL       -- UTC, ISO 8601
    ) STRICT
    """,
    # The project folder that the session counts alone; NULL: all.
    "ALTER TABLE immunos_mcp_session ADD COLUMN folder TEXT",
    # The part of the session's sums for Claude that was measured.
    "ALTER TABLE immunos_mcp_session ADD COLUMN measured_input_tokens INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE immunos_mcp_session ADD COLUMN measured_output_tokens INTEGER NOT NULL DEFAULT 0",
    (
        "ALTER TABLE immunos_mcp_session"
        " ADD COLUMN measured_cache_creation_input_tokens INTEGER NOT NULL DEFAULT 0"
    ),
    (
        "ALTER TABLE immunos_mcp_session"
        " ADD COLUMN measured_cache_read_input_tokens INTEGER NOT NULL DEFAULT 0"
    ),
    "CREATE INDEX immunos_mcp_session_ended ON immunos_mcp_session (ended_at)",
    # 0: a report of usage that is measured anyway, kept but not counted.
    "ALTER TABLE immunos_mcp_usage ADD COLUMN counted INTEGER NOT NULL DEFAULT 1",
)

_VERSION_3 = (
    # How much of the subscription's limit was used, in percent; NULL: it was not looked at.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN plan_used_percent REAL",
    # Whether the local model could run; NULL: not known, or Claude.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN available INTEGER",
    # What the table chose and which step changed it, where one did.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN table_model TEXT",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN changed_by TEXT",
    # Responses before this moment (UTC, ISO 8601) were left out of the reading; empty: none were.
    "ALTER TABLE immunos_mcp_transcript ADD COLUMN left_out_before TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE immunos_mcp_request_usage (
        -- API requests that telemetry reported and no transcript carries, or not yet.
        request_id TEXT PRIMARY KEY,
        finished_at TEXT NOT NULL,  -- UTC, ISO 8601: decides which sessions it counts in
        model TEXT NOT NULL,
        provider TEXT NOT NULL,     -- claude, ollama
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE INDEX immunos_mcp_request_usage_finished ON immunos_mcp_request_usage (finished_at)
    """,
)

_VERSION_4 = (
    """
    CREATE TABLE immunos_mcp_record (
        -- What became of decisions, for each model at each task type and at all of them together.
        task_type TEXT NOT NULL,                      -- empty: all task types together
        model TEXT NOT NULL,                          -- canonical name; claude: any of Claude's
        successes INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        tokens INTEGER NOT NULL DEFAULT 0,            -- of all kinds, of usage that names a decision
        seconds REAL NOT NULL DEFAULT 0,              -- of work, where somebody measured it
        faded_successes REAL NOT NULL DEFAULT 0,      -- each weighed down by its age ...
        faded_failures REAL NOT NULL DEFAULT 0,
        newest_at TEXT,                               -- ... as of the newest outcome, UTC, ISO 8601
        newest_succeeded INTEGER NOT NULL DEFAULT 0,  -- whether that was a success
        tried_at TEXT,                                -- when a task was last a trial, UTC, ISO 8601
        PRIMARY KEY (task_type, model)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_outcome (
        -- The order in which outcomes became known among the decisions, so that these can be replayed.
        outcome_id INTEGER PRIMARY KEY,
        decision_id INTEGER NOT NULL,        -- whose outcome
        after_decision_id INTEGER NOT NULL,  -- the newest decision that was made without knowing it
        policy_id INTEGER NOT NULL,          -- the settings by which it was added to the record
        model TEXT,                          -- of the record; NULL: the decision's
        outcome TEXT,                        -- success, failure; NULL: the decision's
        known_at TEXT,                       -- UTC, ISO 8601; NULL: when the decision was closed
        corrected_at TEXT                    -- when the opposite became known, which it takes back
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_engine (
        -- Every state of the local engine that decisions were made in.
        engine_id INTEGER PRIMARY KEY,
        engine TEXT NOT NULL UNIQUE  -- what the policy looks at, as canonical JSON
    ) STRICT
    """,
    # The local engine as the decision saw it; NULL: models were taken for granted.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN engine_id INTEGER",
    # 1: the task was given to its model to learn more of it.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN trial INTEGER",
    # Where the track record would have sent the task, when it only advises.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN advised_model TEXT",
    # 1: the outcome was not judged by anybody, and gives way to one that is.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN is_provisional INTEGER",
    "CREATE INDEX immunos_mcp_decision_trial ON immunos_mcp_decision (decision_id) WHERE trial = 1",
    # The session's tokens of Claude at that moment, by kind; NULL: not known.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN claude_input_tokens INTEGER",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN claude_output_tokens INTEGER",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN claude_cache_creation_input_tokens INTEGER",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN claude_cache_read_input_tokens INTEGER",
    """
    CREATE TABLE immunos_mcp_pruned_usage (
        -- Sums of usage whose records were pruned, by day.
        day TEXT NOT NULL,           -- UTC, YYYY-MM-DD
        provider TEXT NOT NULL,      -- claude, ollama
        model TEXT NOT NULL,
        source TEXT NOT NULL,        -- reported, delegated, measured, telemetry
        counted INTEGER NOT NULL,    -- 0: reports of usage that is measured anyway
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        usage_records INTEGER NOT NULL,
        PRIMARY KEY (day, provider, model, source, counted)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_pruned_decision (
        -- Counts of decisions that were pruned, by day.
        day TEXT NOT NULL,           -- UTC, YYYY-MM-DD
        reason TEXT NOT NULL,
        provider TEXT NOT NULL,      -- claude, ollama
        model TEXT NOT NULL,
        changed_by TEXT NOT NULL,    -- empty: nothing changed the table's choice
        decisions INTEGER NOT NULL,
        successes INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        PRIMARY KEY (day, reason, provider, model, changed_by)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_pruned_record (
        -- The records as they stood before the oldest decision that is left, to replay from.
        task_type TEXT NOT NULL,
        model TEXT NOT NULL,
        faded_successes REAL NOT NULL,
        faded_failures REAL NOT NULL,
        newest_at TEXT,
        newest_succeeded INTEGER NOT NULL,
        tried_at TEXT,
        PRIMARY KEY (task_type, model)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_pruned_request (
        -- Ids of pruned usage records, so that a repeat is still known.
        external_id TEXT PRIMARY KEY,
        counted INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_pruning (
        -- How far back detail was pruned; one row, or none.
        pruning_id INTEGER PRIMARY KEY CHECK (pruning_id = 1),
        before TEXT NOT NULL,                 -- UTC, ISO 8601: older detail is gone
        first_decision_id INTEGER NOT NULL    -- decisions from here on are whole
    ) STRICT
    """,
)

_VERSION_5 = (
    # The assistant that wrote the response down, and its own id of the conversation; NULL: not known.
    (
        "ALTER TABLE immunos_mcp_measured_usage"
        " ADD COLUMN assistant TEXT NOT NULL DEFAULT 'claude-code'"
    ),
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN conversation TEXT",
    # What the price depends on beside the model and the four counts; NULL: not known.
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN cache_1h_input_tokens INTEGER",
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN speed TEXT",
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN service_tier TEXT",
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN region TEXT",
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN web_searches INTEGER",
    # What later lines need of earlier ones, in the form of the assistant's reader.
    "ALTER TABLE immunos_mcp_transcript ADD COLUMN context TEXT NOT NULL DEFAULT ''",
)

_VERSION_6 = (
    # Who says how the task turned out: check, assistant, user; NULL: nobody, or it was not asked yet.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN outcome_source TEXT",
)

_VERSION_7 = (
    # The word that was given, where it means another task type; NULL: the task type was.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN given_task_type TEXT",
)

_VERSION_8 = (
    """
    CREATE TABLE immunos_mcp_conversation_total (
        -- An assistant's own totals of its conversations, as they grew.
        conversation TEXT NOT NULL,
        start_ms INTEGER NOT NULL,  -- when it began; a fork has its parent's and continues its total
        total_at TEXT NOT NULL,     -- UTC, ISO 8601: the last time written down before the total
        model TEXT NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        cache_1h_input_tokens INTEGER NOT NULL,  -- of the tokens written to the cache
        web_searches INTEGER NOT NULL,
        first_at TEXT,              -- the first response since the previous total; NULL: none
        next_at TEXT,               -- the first response after the total; NULL: none yet
        folder TEXT,                -- project folder; NULL: not known
        is_partial INTEGER NOT NULL,  -- 1: responses it contains were not read; 2: or were pruned
        is_settled INTEGER NOT NULL,  -- 0: its side usage is to be derived again
        PRIMARY KEY (conversation, start_ms, total_at, model)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE INDEX immunos_mcp_conversation_total_family
        ON immunos_mcp_conversation_total (start_ms)
    """,
    """
    CREATE INDEX immunos_mcp_conversation_total_unsettled
        ON immunos_mcp_conversation_total (start_ms) WHERE is_settled = 0
    """,
    """
    CREATE TABLE immunos_mcp_copied_response (
        -- Responses that a conversation has, and another one had first, as forks do.
        conversation TEXT NOT NULL,
        message_id TEXT NOT NULL,
        PRIMARY KEY (conversation, message_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_side_usage (
        -- What a conversation's total has and no response or request does; later rows correct earlier ones.
        side_id INTEGER PRIMARY KEY,
        used_at TEXT NOT NULL,  -- UTC, ISO 8601: the total's time, which decides where it counts
        conversation TEXT NOT NULL,
        start_ms INTEGER NOT NULL,
        model TEXT NOT NULL,
        provider TEXT NOT NULL,  -- claude, ollama
        folder TEXT,             -- project folder; NULL: not known
        is_first INTEGER NOT NULL,  -- 0: it corrects an earlier row
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        cache_1h_input_tokens INTEGER NOT NULL,
        web_searches INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX immunos_mcp_side_usage_start ON immunos_mcp_side_usage (start_ms)",
    "CREATE INDEX immunos_mcp_side_usage_used ON immunos_mcp_side_usage (used_at)",
    # The client's id of the conversation; NULL: not known.
    "ALTER TABLE immunos_mcp_request_usage ADD COLUMN conversation TEXT",
)

_VERSION_9 = (
    # 1: all of it was read for what prices depend on too; earlier programs did not look for that.
    "ALTER TABLE immunos_mcp_transcript ADD COLUMN has_price_terms INTEGER NOT NULL DEFAULT 0",
)

_VERSION_10 = (
    # What a status shows of other assistants; empty where there are none.
    (
        "CREATE INDEX immunos_mcp_measured_usage_other ON immunos_mcp_measured_usage"
        " (measured_at, assistant, folder, input_tokens, output_tokens, cache_creation_input_tokens,"
        " cache_read_input_tokens) WHERE assistant <> 'claude-code'"
    ),
)

_VERSION_11 = (
    # 1: a side conversation wrote it down, which may repeat its parent's; NULL: not known.
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN is_sidechain INTEGER",
    # What stands for its request until a line with the response's id is read; mostly empty.
    (
        "CREATE INDEX immunos_mcp_measured_usage_nameless ON immunos_mcp_measured_usage"
        " (request_id) WHERE message_id = request_id"
    ),
)

_VERSION_12 = (
    """
    CREATE TABLE immunos_mcp_delegated_task (
        -- Delegated tasks, as the process that runs each last described it.
        decision_id INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        state TEXT NOT NULL,     -- waiting, running, finished, failed, cancelled
        process TEXT NOT NULL,   -- host and process id
        begun_at TEXT NOT NULL,  -- UTC, ISO 8601
        seen_at TEXT NOT NULL,   -- UTC, ISO 8601: the last sign of life
        tokens INTEGER NOT NULL  -- generated until then
    ) STRICT
    """,
)

EARLIER_STEPS: tuple[tuple[str, ...], ...] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
    _VERSION_10,
    _VERSION_11,
    _VERSION_12,
)
"""Their statements, in order."""
