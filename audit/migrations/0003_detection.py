"""Detection: the rules' versions, the alerts, and what the rules remember.

A rule's history and which events an alert has are append-only. An alert is never deleted, and may
only grow: what it says of its rule, key and raising stays as it was. `audit_stamp(column)` is for
every table whose time may not be back-dated: it puts the database's clock there on each INSERT.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


STAMP = """
CREATE FUNCTION audit_stamp() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW := jsonb_populate_record(NEW, jsonb_build_object(TG_ARGV[0], now()));
    RETURN NEW;
END $$
"""

STAMPED = {"audit_ruleversion": "changed_at", "audit_alert": "raised_at"}

ONLY_GROWS = """
CREATE FUNCTION audit_alert_only_grows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF (NEW.id, NEW.rule, NEW.rule_version, NEW.severity, NEW.category, NEW.key,
        NEW.raised_at, NEW.raised_index)
       IS NOT DISTINCT FROM
       (OLD.id, OLD.rule, OLD.rule_version, OLD.severity, OLD.category, OLD.key,
        OLD.raised_at, OLD.raised_index)
       AND NEW.count >= OLD.count AND NEW.first_at <= OLD.first_at AND NEW.last_at >= OLD.last_at
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only: an alert can only grow and be decided'
        USING ERRCODE = 'AP001';
END $$;
CREATE TRIGGER only_grows BEFORE UPDATE ON audit_alert
    FOR EACH ROW EXECUTE FUNCTION audit_alert_only_grows();
ALTER TABLE audit_alert ENABLE ALWAYS TRIGGER only_grows;
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON audit_alert
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
ALTER TABLE audit_alert ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit_alert ADD CONSTRAINT audit_alert_is_in_order CHECK (first_at <= last_at AND count > 0)
"""

APPEND_ONLY = ("audit_ruleversion", "audit_alertevent")


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0002_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("rule", models.CharField(max_length=64)),
                ("rule_version", models.PositiveIntegerField()),
                (
                    "severity",
                    models.CharField(
                        choices=[("low", "Low"), ("medium", "Medium"), ("high", "High")],
                        max_length=8,
                    ),
                ),
                ("category", models.CharField(max_length=32)),
                ("key", models.CharField(max_length=64)),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                (
                    "raised_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("raised_index", models.BigIntegerField()),
                ("count", models.BigIntegerField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("in_review", "In review"),
                            ("benign", "Benign"),
                            ("exception", "Exception"),
                        ],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("assigned_to", models.CharField(blank=True, default="", max_length=150)),
            ],
            options={
                "permissions": [("review_alert", "Can review alerts")],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["last_at", "id"], name="alert_time"),
                    models.Index(fields=["status", "last_at", "id"], name="alert_status"),
                    models.Index(fields=["category", "first_at", "last_at"], name="alert_day"),
                    models.Index(fields=["rule", "raised_at"], name="alert_rule"),
                    models.Index(fields=["key", "last_at"], name="alert_key"),
                ],
            },
        ),
        migrations.CreateModel(
            name="AlertEvent",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "alert_id",
                        "event_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("event_id", models.UUIDField(db_index=True)),
                ("occurred_at", models.DateTimeField()),
                (
                    "alert",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="audit.alert",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="DetectionState",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "rule",
                        "version",
                        "key",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("rule", models.CharField(max_length=64)),
                ("version", models.PositiveIntegerField()),
                ("key", models.CharField(max_length=64)),
                ("state", models.JSONField()),
                ("due", models.DateTimeField(null=True)),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["due"], name="detection_due")],
            },
        ),
        migrations.CreateModel(
            name="RuleVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("rule", models.CharField(max_length=64)),
                ("version", models.PositiveIntegerField()),
                ("parameters", models.JSONField()),
                ("is_on", models.BooleanField()),
                ("comment", models.TextField()),
                ("changed_by", models.CharField(max_length=150)),
                (
                    "changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("from_index", models.BigIntegerField()),
            ],
            options={
                "permissions": [("change_rule", "Can change detection rules")],
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("rule", "version"), name="rule_version_is_one")
                ],
            },
        ),
        migrations.RunSQL(STAMP, "DROP FUNCTION audit_stamp()"),
        *(
            migrations.RunSQL(
                f"CREATE TRIGGER stamp BEFORE INSERT ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION audit_stamp('{column}');"
                f" ALTER TABLE {table} ENABLE ALWAYS TRIGGER stamp",
                f"DROP TRIGGER stamp ON {table}",
            )
            for table, column in STAMPED.items()
        ),
        migrations.RunSQL(
            ONLY_GROWS,
            "DROP TRIGGER only_grows ON audit_alert; DROP TRIGGER append_only ON audit_alert;"
            " DROP FUNCTION audit_alert_only_grows();"
            " ALTER TABLE audit_alert DROP CONSTRAINT audit_alert_is_in_order",
        ),
        *(
            migrations.RunSQL(
                f"SELECT audit_guard('{table}')", f"DROP TRIGGER append_only ON {table}"
            )
            for table in APPEND_ONLY
        ),
    ]
