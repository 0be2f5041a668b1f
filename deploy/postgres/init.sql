-- Temporal and the ledger: a user each, which reaches its own databases alone. Run once, by the image of PostgreSQL, in an empty volume.
-- The passwords are for this machine: give others in production.
CREATE ROLE temporal LOGIN PASSWORD 'temporal';
CREATE ROLE handfast LOGIN PASSWORD 'handfast';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE DATABASE handfast OWNER handfast;
REVOKE ALL ON DATABASE temporal, temporal_visibility, handfast FROM PUBLIC;
