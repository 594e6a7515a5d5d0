"""The guard: evidence and its log are append-only, whoever asks, on tables and on every partition.

Statement and TRUNCATE triggers are not inherited, so each partition gets its own; ENABLE ALWAYS
keeps them in force for replication roles too. A partition is made with LIKE and ATTACH, because a
plain PARTITION OF waits for every open reader and holds up ingest meanwhile.

A tile of the log is the one thing that is updated: it grows by the hashes of new leaves, and its
own guard lets nothing else through.
"""

from django.db import migrations

REFUSE_CHANGE = """
CREATE FUNCTION audit_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'AP001',
              HINT = 'Evidence never changes. A correction is a new event.';
END $$
"""

GUARD = """
CREATE FUNCTION audit_guard(evidence regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
                   'FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()', evidence);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', evidence);
END $$
"""

# The bounds are the smallest UUIDs of the month and of the next: 48 bits of milliseconds, zeros.
MONTH_BOUND = """
CREATE FUNCTION audit_month_bound(month date) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM month::timestamp) * 1000)::bigint), 12, '0'),
                32, '0')::uuid
$$
"""

MAKE_PARTITION = """
CREATE FUNCTION audit_make_partition(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    next date := (first + interval '1 month')::date;
    ending text := to_char(first, '_YYYY_MM');
    parent text;
    acl record;
BEGIN
    IF first NOT BETWEEN (now() AT TIME ZONE 'UTC' - interval '10 years')::date
                     AND (now() AT TIME ZONE 'UTC' + interval '4 months')::date THEN
        RAISE EXCEPTION 'no partition for %: it lies too far from today', first
            USING ERRCODE = 'AP002';
    END IF;
    -- Nearly always it is there. The lock is kept until the caller's transaction ends, which may
    -- take an hour.
    IF to_regclass('public.audit_auditevent' || ending) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('audit_make_partition'));
    -- By a query, because to_regclass remembers its first answer.
    IF EXISTS (SELECT FROM pg_class
               WHERE relname = 'audit_auditevent' || ending
               AND relnamespace = 'public'::regnamespace) THEN
        RETURN false;
    END IF;
    FOREACH parent IN ARRAY ARRAY['audit_auditevent', 'audit_searchtext'] LOOP
        EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)',
                       parent || ending, parent);
        IF parent = 'audit_auditevent' THEN
            PERFORM public.audit_guard(format('public.%I', parent || ending)::regclass);
        END IF;
        FOR acl IN
            SELECT grantee::regrole AS role, privilege_type AS privilege
            FROM pg_class, aclexplode(relacl)
            WHERE oid = format('public.%I', parent)::regclass AND grantee <> relowner
        LOOP
            EXECUTE format('GRANT %s ON public.%I TO %s',
                           acl.privilege, parent || ending, acl.role);
        END LOOP;
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I '
                       'FOR VALUES FROM (%L) TO (%L)', parent, parent || ending,
                       public.audit_month_bound(first), public.audit_month_bound(next));
    END LOOP;
    RETURN true;
END $$
"""

CHECKS = """
ALTER TABLE audit_auditevent
    ADD CONSTRAINT audit_event_id_is_version_7 CHECK (substr(id::text, 15, 1) = '7'),
    ADD CONSTRAINT audit_event_leaf_has_32_bytes CHECK (octet_length(leaf_hash) = 32);
ALTER TABLE audit_pending
    ADD CONSTRAINT audit_pending_has_a_leaf_each
        CHECK (octet_length(leaves) = 32 * cardinality(ids));
ALTER TABLE audit_tile
    ADD CONSTRAINT audit_tile_has_up_to_256_hashes CHECK (
        octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0),
    -- Hashes cannot be compressed; outside of the row they are read in one piece.
    ALTER hashes SET STORAGE EXTERNAL
"""

GUARD_TILES = """
CREATE FUNCTION audit_refuse_shrinking() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF (NEW.level, NEW.number) = (OLD.level, OLD.number)
       AND substr(NEW.hashes, 1, octet_length(OLD.hashes)) = OLD.hashes THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only: a tile can only grow' USING ERRCODE = 'AP001';
END $$;
CREATE TRIGGER only_grows BEFORE UPDATE ON audit_tile
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_shrinking();
ALTER TABLE audit_tile ENABLE ALWAYS TRIGGER only_grows;
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON audit_tile
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
ALTER TABLE audit_tile ENABLE ALWAYS TRIGGER append_only
"""

APPEND_ONLY = (
    "audit_auditevent", "audit_leaf", "audit_checkpoint", "audit_cosignature", "audit_logkey",
    "audit_verification", "audit_pruning",
)  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_tables")]

    operations = [
        migrations.RunSQL(REFUSE_CHANGE, "DROP FUNCTION audit_refuse_change()"),
        migrations.RunSQL(GUARD, "DROP FUNCTION audit_guard(regclass)"),
        migrations.RunSQL(MONTH_BOUND, "DROP FUNCTION audit_month_bound(date)"),
        migrations.RunSQL(MAKE_PARTITION, "DROP FUNCTION audit_make_partition(date)"),
        migrations.RunSQL("REVOKE ALL ON FUNCTION audit_make_partition(date) FROM PUBLIC", ""),
        migrations.RunSQL(CHECKS, ""),
        migrations.RunSQL(GUARD_TILES, ""),
        *(
            migrations.RunSQL(
                f"SELECT audit_guard('{table}')", f"DROP TRIGGER append_only ON {table}"
            )
            for table in APPEND_ONLY
        ),
    ]
