#!/bin/sh
# Creates the owner of the tables, and the role that servers and commands connect as, which owns nothing.
# Runs once, as the database's administrator, when its volume is new.
set -eu
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set owner_password="$OWNER_PASSWORD" --set server_password="$SERVER_PASSWORD" <<'SQL'
CREATE ROLE immunos_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE immunos_server LOGIN PASSWORD :'server_password';
CREATE DATABASE immunos OWNER immunos_owner;
SQL
