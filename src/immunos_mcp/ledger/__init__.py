"""The ledger: everything that is stored.

Its operations are functions of a connection, one transaction each: sessions, decisions, usage, settings,
records, reports. A ledger from ``connections/`` runs them: ``await ledger.read(newest_decisions, name,
limit)``, ``await ledger.write(decide, ...)``. ``dialect.py`` has the SQL that another database would
need differently.
"""
