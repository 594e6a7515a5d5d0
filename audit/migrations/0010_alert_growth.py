"""Each step about an alert keeps how many events it had; one that grows after its end is reopened.

A decision is about what was there. So where events come to an alert that was found benign, or whose
exceptions are all closed, the database itself adds the step that opens it again: by nobody, which no
user can be, and with the reason. It can neither be made by hand nor left out.
"""

from importlib import import_module

from django.db import migrations, models

# Fired after `checked`, which has locked the alert: triggers go by their names.
COUNT_EVENTS = """
CREATE FUNCTION audit_count_alert_events() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    SELECT count INTO NEW.events FROM audit_alert WHERE id = NEW.alert_id;
    RETURN NEW;
END $$;
CREATE TRIGGER counted BEFORE INSERT ON audit_alertstep
    FOR EACH ROW EXECUTE FUNCTION audit_count_alert_events();
ALTER TABLE audit_alertstep ENABLE ALWAYS TRIGGER counted
"""

REOPEN = """
CREATE FUNCTION audit_reopen_alert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.status = 'benign' OR NOT EXISTS (
        SELECT FROM audit_findinglink link JOIN audit_finding finding
            ON finding.number = link.finding_id
        WHERE link.alert_id = NEW.id AND NOT finding.is_closed)
    THEN
        INSERT INTO audit_alertstep (alert_id, number, "by", kind, status, assigned_to, text)
        SELECT NEW.id, max(number) + 1, '', 'status', 'open', '', 'More events came.'
        FROM audit_alertstep WHERE alert_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER reopened AFTER UPDATE OF count ON audit_alert FOR EACH ROW
    WHEN (NEW.count > OLD.count AND NEW.status IN ('benign', 'exception'))
    EXECUTE FUNCTION audit_reopen_alert();
ALTER TABLE audit_alert ENABLE ALWAYS TRIGGER reopened
"""

MAY = """        WHEN NOT audit_may_review(NEW."by") THEN format('“%s” may not review alerts.'"""
OWN = """        WHEN NEW."by" = '' AND pg_trigger_depth() > 1 THEN NULL -- from the trigger `reopened`
"""

_before = import_module("audit.migrations.0006_review_rules").CHECK_ALERT_STEP
_function = _before.partition("CREATE TRIGGER")[0].replace("CREATE", "CREATE OR REPLACE", 1)
assert _function.count(MAY) == 1
CHECK_ALERT_STEP = _function.replace(MAY, OWN + MAY)


class Migration(migrations.Migration):
    dependencies = [("audit", "0009_jobs")]

    operations = [
        migrations.AddField(
            "alertstep", "events", models.BigIntegerField(editable=False, null=True)
        ),
        migrations.RunSQL(COUNT_EVENTS, "DROP FUNCTION audit_count_alert_events() CASCADE"),
        migrations.RunSQL(CHECK_ALERT_STEP, _function),
        migrations.RunSQL(REOPEN, "DROP FUNCTION audit_reopen_alert() CASCADE"),
    ]
