"""Sign-offs of days, and the rules that the database itself holds for them, whoever inserts.

Nothing can be back-dated: time, number, the log's size and its checkpoint are set here. A day that
is not over is refused, one with undecided alerts, one whose number of events is not what is sealed,
one that is signed already and to which nothing has come since; and a second signature by the first
signer. The errors' codes begin with `AP`, their texts are for people.
"""

import django.db.models.deletion
from django.db import migrations, models

# Midnight, of which there may be two where clocks are set back at one o'clock: the first one.
DAY_START = """
CREATE FUNCTION audit_day_start(day date, zone text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT least(day::timestamp AT TIME ZONE zone,
                 (day::timestamp - interval '1 hour') AT TIME ZONE zone + interval '1 hour')
$$
"""

# Whole hours from the sealer's counts; what is left where a zone's days begin within an hour is
# counted among the events. STABLE, so that it sees what the statement sees that calls it.
SEALED_EVENTS = """
CREATE FUNCTION audit_sealed_events(of_category text, first timestamptz, last timestamptz)
RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public AS $$
DECLARE
    hours_from timestamptz := date_bin('1 hour', first + interval '1 hour' - interval '1 us',
                                       '2000-01-01Z');
    hours_to timestamptz := date_bin('1 hour', last, '2000-01-01Z');
    found bigint;
BEGIN
    SELECT coalesce(sum(count), 0) INTO found FROM audit_hourlycount
    WHERE start >= hours_from AND start < hours_to AND category = of_category;
    IF first < hours_from OR hours_to < last THEN
        found := found + (
            SELECT count(*) FROM (
                SELECT id FROM audit_auditevent WHERE category = of_category
                    AND occurred_at >= first AND occurred_at < hours_from
                UNION ALL
                SELECT id FROM audit_auditevent WHERE category = of_category
                    AND occurred_at >= hours_to AND occurred_at < last
            ) AS edge WHERE EXISTS (SELECT FROM audit_leaf WHERE event_id = edge.id));
    END IF;
    RETURN found;
END $$
"""

SIGN_OFF = """
CREATE FUNCTION audit_sign_off() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
DECLARE
    first timestamptz := audit_day_start(NEW.day, NEW.zone);
    last timestamptz := audit_day_start(NEW.day + 1, NEW.zone);
    sealed bigint;
    undecided bigint;
    previous audit_signoff;
BEGIN
    -- Of two who sign at once, the second one sees what the first one did.
    PERFORM pg_advisory_xact_lock(hashtext('audit_sign_off'),
                                  hashtext(NEW.day::text || NEW.category));
    NEW.at := clock_timestamp();
    IF NEW.at < last THEN
        RAISE EXCEPTION 'the day % is not over: it ends at % UTC', NEW.day,
            to_char(last AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') USING ERRCODE = 'AP011';
    END IF;

    SELECT count(*), count(*) FILTER (WHERE status IN ('open', 'in_review'))
    INTO NEW.alerts, undecided FROM audit_alert
    WHERE category = NEW.category AND first_at < last AND last_at >= first;
    IF undecided > 0 THEN
        RAISE EXCEPTION 'undecided alerts of that day and category: %', undecided
            USING ERRCODE = 'AP012';
    END IF;

    -- Size and number of events of one moment, in one statement.
    SELECT size, note, audit_sealed_events(NEW.category, first, last)
    INTO NEW.tree_size, NEW.checkpoint, sealed
    FROM (SELECT size, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1) AS newest;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nothing has been sealed yet' USING ERRCODE = 'AP013';
    END IF;
    IF NEW.events <> sealed OR sealed <>
        (SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(NEW.totals)) THEN
        RAISE EXCEPTION 'there are % sealed events of that day and category, not %', sealed,
            NEW.events USING ERRCODE = 'AP014';
    END IF;

    SELECT * INTO previous FROM audit_signoff
    WHERE day = NEW.day AND category = NEW.category ORDER BY number DESC LIMIT 1;
    IF FOUND AND (previous.zone, previous.events, previous.alerts)
        = (NEW.zone, sealed, NEW.alerts) THEN
        RAISE EXCEPTION 'the day was already signed off by %, at % UTC, and nothing has come since',
            previous."by", to_char(previous.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
            USING ERRCODE = 'AP015';
    END IF;
    NEW.number := coalesce(previous.number, 0) + 1;

    SELECT count(*) INTO NEW.own_events FROM audit_auditevent
    WHERE user_id = NEW."by" AND category = NEW.category
        AND occurred_at >= first AND occurred_at < last;
    NEW.needs_second := NEW.own_events > 0;
    RETURN NEW;
END $$;
CREATE TRIGGER sign_off BEFORE INSERT ON audit_signoff
    FOR EACH ROW EXECUTE FUNCTION audit_sign_off();
ALTER TABLE audit_signoff ENABLE ALWAYS TRIGGER sign_off
"""

SECOND_SIGNATURE = """
CREATE FUNCTION audit_sign_second() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
DECLARE
    signed audit_signoff;
BEGIN
    NEW.at := clock_timestamp();
    SELECT * INTO signed FROM audit_signoff WHERE id = NEW.signoff_id;
    IF signed."by" = NEW."by" THEN
        RAISE EXCEPTION 'another person has to sign second: % has signed this day already',
            NEW."by" USING ERRCODE = 'AP016';
    END IF;
    IF NOT signed.needs_second THEN
        RAISE EXCEPTION 'this sign-off needs no second signature' USING ERRCODE = 'AP017';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sign_second BEFORE INSERT ON audit_secondsignature
    FOR EACH ROW EXECUTE FUNCTION audit_sign_second();
ALTER TABLE audit_secondsignature ENABLE ALWAYS TRIGGER sign_second
"""

# AT TIME ZONE also takes what POSIX writes, such as <x>-167: a zone in which the day is soon over.
ZONE_IS_A_NAME = """
ALTER TABLE audit_signoff ADD CONSTRAINT signoff_zone_is_a_name
    CHECK (zone ~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$')
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_detection")]

    operations = [
        migrations.CreateModel(
            name="SignOff",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("category", models.CharField(max_length=32)),
                ("zone", models.CharField(max_length=64)),
                ("number", models.PositiveIntegerField(editable=False)),
                ("at", models.DateTimeField(editable=False)),
                ("by", models.CharField(max_length=150)),
                ("comment", models.TextField(blank=True)),
                ("tree_size", models.BigIntegerField(editable=False)),
                ("checkpoint", models.TextField(editable=False)),
                ("events", models.BigIntegerField()),
                ("alerts", models.BigIntegerField(editable=False)),
                ("own_events", models.BigIntegerField(editable=False)),
                ("needs_second", models.BooleanField(editable=False)),
                ("totals", models.JSONField()),
                ("rule_versions", models.JSONField()),
                ("exceptions", models.JSONField()),
            ],
            options={
                "verbose_name": "sign-off",
                "permissions": [("sign_day", "Can sign days off")],
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("day", "category", "number"), name="signoff_has_a_number"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("by", ""), _negated=True), name="signoff_names_somebody"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SecondSignature",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(editable=False)),
                ("by", models.CharField(max_length=150)),
                ("comment", models.TextField(blank=True)),
                (
                    "signoff",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="second",
                        to="audit.signoff",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("by", ""), _negated=True),
                        name="secondsignature_names_somebody",
                    ),
                ],
            },
        ),
        migrations.RunSQL(ZONE_IS_A_NAME, ""),
        migrations.RunSQL(DAY_START, "DROP FUNCTION audit_day_start(date, text)"),
        migrations.RunSQL(
            SEALED_EVENTS, "DROP FUNCTION audit_sealed_events(text, timestamptz, timestamptz)"
        ),
        migrations.RunSQL(SIGN_OFF, "DROP FUNCTION audit_sign_off() CASCADE"),
        migrations.RunSQL(SECOND_SIGNATURE, "DROP FUNCTION audit_sign_second() CASCADE"),
        *(
            migrations.RunSQL(
                f"SELECT audit_guard('{table}')", f"DROP TRIGGER append_only ON {table}"
            )
            for table in ("audit_signoff", "audit_secondsignature")
        ),
    ]
