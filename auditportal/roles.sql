-- The three roles of the portal and its database, on PostgreSQL 15 or newer.
--
--     AUDITPORTAL_OWNER_PASSWORD=… AUDITPORTAL_WEB_PASSWORD=… AUDITPORTAL_WORKER_PASSWORD=… \
--         psql --no-psqlrc --file auditportal/roles.sql postgres://superuser@server/postgres
--
-- May be run again: it adds what is missing, and sets the passwords that are given.
-- The embedded server and .ci/postgres15 run this same file.

\set ON_ERROR_STOP on

-- The owner migrates; CREATEDB lets the tests make databases (elsewhere: ALTER ROLE … NOCREATEDB).
SELECT format('CREATE ROLE %I LOGIN %s', role, may)
  FROM (VALUES ('auditportal_owner',  'CREATEDB'),
               ('auditportal_web',    ''),
               ('auditportal_worker', '')) AS wanted (role, may)
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec

-- Events and their words are partitioned alike: each month's are joined as its own statistics advise.
SELECT format('ALTER ROLE %I SET enable_partitionwise_join = on', 'auditportal_' || role)
  FROM unnest(ARRAY['owner', 'web', 'worker']) AS role
\gexec

-- Pages ask for little at a time: to start a second process takes longer than the work.
ALTER ROLE auditportal_web SET max_parallel_workers_per_gather = 0;

-- No page keeps the database busy once nobody waits any more; exports and counting ask for more.
ALTER ROLE auditportal_web SET statement_timeout = '20s';

-- By the environment, because a command line can be read by everyone on the machine.
\getenv owner_password AUDITPORTAL_OWNER_PASSWORD
\getenv web_password AUDITPORTAL_WEB_PASSWORD
\getenv worker_password AUDITPORTAL_WORKER_PASSWORD
\if :{?owner_password}
ALTER ROLE auditportal_owner PASSWORD :'owner_password';
\endif
\if :{?web_password}
ALTER ROLE auditportal_web PASSWORD :'web_password';
\endif
\if :{?worker_password}
ALTER ROLE auditportal_worker PASSWORD :'worker_password';
\endif

-- LC_COLLATE C: text sorts by code point, the same on every machine.
SELECT 'CREATE DATABASE auditportal OWNER auditportal_owner ENCODING ''UTF8'' LC_COLLATE ''C'' TEMPLATE template0'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'auditportal')
\gexec

REVOKE ALL ON DATABASE auditportal FROM PUBLIC;
GRANT CONNECT ON DATABASE auditportal TO auditportal_web, auditportal_worker;

\connect auditportal
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
