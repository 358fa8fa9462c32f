"""Opens ledgers, runs their transactions and translates their failures.

Operations do not depend on any of this. Importing one of these modules does not load the others.
"""
