"""The ledger: everything that is stored.

What it does are operations, functions of a connection that run in one transaction each: sessions, decisions,
usage, settings, records, reports. A ledger of ``connections/`` runs them: ``await ledger.read(newest_decisions,
name, limit)``, ``await ledger.write(decide, ...)``. ``dialect.py`` has what another database would
spell otherwise.
"""
