"""An alert that was decided can be told to grow as the worker does it: by INSERT … ON CONFLICT.

The trigger comes before the conflict is found, so what is inserted is compared with a new alert's
state, whatever has been decided since: a row that is not new is not inserted.
"""

from importlib import import_module

from django.db import migrations

_before = import_module("audit.migrations.0006_review_rules").GUARD_ALERTS.partition(
    "CREATE TRIGGER"
)[0]

GUARD_ALERTS = """
CREATE OR REPLACE FUNCTION audit_guard_alert_state() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    stated_status text;
    stated_assigned_to text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT status, assigned_to INTO stated_status, stated_assigned_to
        FROM audit_alertstep WHERE alert_id = NEW.id ORDER BY number DESC LIMIT 1;
    END IF;
    PERFORM audit_refuse_deed(CASE
        WHEN (NEW.status, NEW.assigned_to)
             <> (coalesce(stated_status, 'open'), coalesce(stated_assigned_to, ''))
            THEN 'Only a step changes the state of an alert.'
    END);
    RETURN NEW;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0010_alert_growth")]

    operations = [
        migrations.RunSQL(GUARD_ALERTS, _before.replace("CREATE", "CREATE OR REPLACE", 1)),
    ]
