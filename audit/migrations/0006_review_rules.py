"""The rules of reviewing, held for whoever writes: steps are append-only and follow one another.

Only a step changes the state of an alert or an exception: it is checked, gets the database's time
and the state from then on, and a trigger copies that. The guard on alerts and exceptions compares:
what does not stand in the newest step cannot stand there. So neither needs a right to UPDATE.

AP003 is a rule of reviewing that was broken; its message is for whoever tried.
"""

from django.db import migrations

# By the tables of Django's own permissions, as its ModelBackend reads them.
MAY_REVIEW = """
CREATE FUNCTION audit_may_review(name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM auth_user member
        WHERE member.username = name AND member.is_active AND (member.is_superuser OR EXISTS (
            SELECT FROM auth_permission permission
            JOIN django_content_type kind ON kind.id = permission.content_type_id
            WHERE kind.app_label = 'audit' AND permission.codename = 'review_alert' AND (
                EXISTS (SELECT FROM auth_user_user_permissions own
                        WHERE own.user_id = member.id AND own.permission_id = permission.id)
                OR EXISTS (SELECT FROM auth_user_groups joined
                           JOIN auth_group_permissions given USING (group_id)
                           WHERE joined.user_id = member.id
                             AND given.permission_id = permission.id)))))
$$
"""

REFUSE_DEED = """
CREATE FUNCTION audit_refuse_deed(why text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF why IS NOT NULL THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'AP003';
    END IF;
END $$
"""

# --- alerts ------------------------------------------------------------------------------------

# "by" in quotes, as PL/pgSQL has a keyword of that name.
# The lock makes a second person wait, and then see that the number is taken.
CHECK_ALERT_STEP = """
CREATE FUNCTION audit_check_alert_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    alert record;
    was_decided boolean;
BEGIN
    SELECT status, assigned_to INTO alert FROM audit_alert WHERE id = NEW.alert_id
        FOR NO KEY UPDATE;
    was_decided := alert.status IN ('benign', 'exception');
    PERFORM audit_refuse_deed(CASE
        WHEN alert IS NULL THEN 'There is no such alert.'
        WHEN NEW.number IS DISTINCT FROM (
            SELECT coalesce(max(number), 0) + 1 FROM audit_alertstep
            WHERE alert_id = NEW.alert_id)
            THEN 'Somebody did something about this alert meanwhile.'
        WHEN NOT audit_may_review(NEW."by") THEN format('“%s” may not review alerts.', NEW."by")
        WHEN NEW.kind NOT IN ('status', 'assignment', 'comment') THEN 'There is no such step.'
        WHEN NEW.kind = 'comment' AND btrim(NEW.text) = '' THEN 'A comment needs words.'
        WHEN NEW.kind = 'assignment' AND was_decided THEN 'This alert is decided; reopen it first.'
        WHEN NEW.kind = 'assignment' AND NOT audit_may_review(NEW.assigned_to)
            THEN format('“%s” is nobody who may review alerts.', NEW.assigned_to)
        WHEN NEW.kind = 'assignment' AND NEW.assigned_to = alert.assigned_to
            THEN format('This alert is assigned to “%s” already.', NEW.assigned_to)
        WHEN NEW.kind = 'status' AND (alert.status, NEW.status) NOT IN (
            ('open', 'in_review'), ('open', 'benign'), ('open', 'exception'),
            ('in_review', 'open'), ('in_review', 'benign'), ('in_review', 'exception'),
            ('benign', 'open'), ('exception', 'open'))
            THEN format('An alert that is %s cannot become %s.', replace(alert.status, '_', ' '),
                        replace(NEW.status, '_', ' '))
        WHEN NEW.kind = 'status' AND (NEW.status = 'benign' OR was_decided)
             AND btrim(NEW.text) = '' THEN 'A reason is needed.'
        WHEN NEW.kind = 'status' AND NEW.status = 'exception' AND NOT EXISTS (
            SELECT FROM audit_findinglink link JOIN audit_finding finding
                ON finding.number = link.finding_id
            WHERE link.alert_id = NEW.alert_id AND NOT finding.is_closed)
            THEN 'There is no open exception with this alert.'
    END);
    NEW.at := clock_timestamp();
    IF NEW.kind <> 'status' THEN
        NEW.status := alert.status;
    END IF;
    IF NEW.kind <> 'assignment' THEN
        NEW.assigned_to := CASE
            WHEN NEW.kind = 'comment' THEN alert.assigned_to
            WHEN NEW.status = 'in_review' THEN NEW."by"
            WHEN NEW.status = 'open' THEN ''
            ELSE alert.assigned_to END;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER checked BEFORE INSERT ON audit_alertstep
    FOR EACH ROW EXECUTE FUNCTION audit_check_alert_step()
"""

APPLY_ALERT_STEP = """
CREATE FUNCTION audit_apply_alert_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE audit_alert SET status = NEW.status, assigned_to = NEW.assigned_to
    WHERE id = NEW.alert_id
        AND (status, assigned_to) IS DISTINCT FROM (NEW.status, NEW.assigned_to);
    RETURN NULL;
END $$;
CREATE TRIGGER applied AFTER INSERT ON audit_alertstep
    FOR EACH ROW EXECUTE FUNCTION audit_apply_alert_step()
"""

GUARD_ALERTS = """
CREATE FUNCTION audit_guard_alert_state() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    stated record;
BEGIN
    SELECT status, assigned_to INTO stated FROM audit_alertstep WHERE alert_id = NEW.id
        ORDER BY number DESC LIMIT 1;
    PERFORM audit_refuse_deed(CASE
        WHEN (NEW.status, NEW.assigned_to)
             <> (coalesce(stated.status, 'open'), coalesce(stated.assigned_to, ''))
            THEN 'Only a step changes the state of an alert.'
    END);
    RETURN NEW;
END $$;
CREATE TRIGGER state_is_that_of_steps BEFORE INSERT OR UPDATE OF status, assigned_to ON audit_alert
    FOR EACH ROW EXECUTE FUNCTION audit_guard_alert_state()
"""

# --- exceptions --------------------------------------------------------------------------------

FINDING_STATE = """
CREATE FUNCTION audit_finding_state(finding audit_finding) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT jsonb_build_object(
        'owner', finding.owner, 'severity', finding.severity, 'due', finding.due,
        'is_closed', finding.is_closed, 'disposition', finding.disposition,
        'asked_by', finding.asked_by)
$$
"""

OPEN_FINDING = """
CREATE FUNCTION audit_open_finding() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM audit_refuse_deed(CASE
        WHEN btrim(NEW.title) = '' THEN 'An exception needs a title.'
        WHEN NEW.is_closed OR NEW.disposition <> '' OR NEW.asked_by <> ''
            THEN 'An exception begins open.'
    END);
    PERFORM pg_advisory_xact_lock(hashtext('audit_open_finding'));
    NEW.number := (SELECT coalesce(max(number), 0) + 1 FROM audit_finding);
    NEW.opened_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER opened BEFORE INSERT ON audit_finding
    FOR EACH ROW EXECUTE FUNCTION audit_open_finding();

CREATE FUNCTION audit_finding_has_begun() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM audit_refuse_deed(CASE
        WHEN NOT EXISTS (SELECT FROM audit_findingstep step WHERE step.finding_id = NEW.number)
            THEN 'An exception begins with a step that says who opened it, and why.'
        WHEN NOT EXISTS (SELECT FROM audit_findinglink link WHERE link.finding_id = NEW.number)
            THEN 'An exception is about an alert or an event.'
    END);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER has_begun AFTER INSERT ON audit_finding
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_finding_has_begun()
"""

# One that was ever of high severity needs a second person: else whoever is alone would lower it.
CHECK_FINDING_STEP = """
CREATE FUNCTION audit_check_finding_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    finding audit_finding;
    was jsonb;
    given text[] := ARRAY(SELECT jsonb_object_keys(NEW.values));
    takes text[] := CASE NEW.kind
        WHEN 'owner' THEN '{owner}' WHEN 'due' THEN '{due}' WHEN 'severity' THEN '{severity}'
        WHEN 'close_asked' THEN '{disposition}' WHEN 'closed' THEN '{disposition}' ELSE '{}' END;
    needs_two boolean;
BEGIN
    SELECT * INTO finding FROM audit_finding WHERE number = NEW.finding_id FOR NO KEY UPDATE;
    was := audit_finding_state(finding);
    needs_two := finding.severity = 'high' OR EXISTS (
        SELECT FROM audit_findingstep
        WHERE finding_id = NEW.finding_id AND values ->> 'severity' = 'high');
    IF given <@ takes THEN
        NEW.values := was || NEW.values || CASE NEW.kind
            WHEN 'close_asked' THEN jsonb_build_object('asked_by', NEW."by")
            WHEN 'closed' THEN '{"is_closed": true, "asked_by": ""}'
            WHEN 'reopened' THEN '{"is_closed": false, "disposition": "", "asked_by": ""}'
            ELSE '{}' END;
    END IF;
    PERFORM audit_refuse_deed(CASE
        WHEN finding IS NULL THEN 'There is no such exception.'
        WHEN NEW.number IS DISTINCT FROM (
            SELECT coalesce(max(number), 0) + 1 FROM audit_findingstep
            WHERE finding_id = NEW.finding_id)
            THEN 'Somebody did something about this exception meanwhile.'
        WHEN NOT audit_may_review(NEW."by") THEN format('“%s” may not review exceptions.', NEW."by")
        WHEN NEW.kind NOT IN ('opened', 'comment', 'owner', 'due', 'severity', 'close_asked',
                              'closed', 'reopened', 'correction') THEN 'There is no such step.'
        WHEN (NEW.kind = 'opened') <> (NEW.number = 1)
            THEN 'An exception is opened once, by its first step.'
        WHEN NOT given <@ takes THEN format('A step of the kind %s sets no %s.', NEW.kind,
            (SELECT min(name) FROM unnest(given) AS name WHERE name <> ALL (takes)))
        WHEN NEW.kind <> 'owner' AND btrim(NEW.text) = '' THEN 'A reason is needed.'
        WHEN finding.is_closed AND NEW.kind NOT IN ('reopened', 'comment', 'correction')
            THEN 'This exception is closed; reopen it first.'
        WHEN NEW.kind IN ('owner', 'due', 'severity') AND NEW.values = was
            THEN 'That would change nothing.'
        WHEN NEW.kind IN ('opened', 'owner') AND NOT audit_may_review(NEW.values ->> 'owner')
            THEN format('“%s” is nobody who may review exceptions.', NEW.values ->> 'owner')
        WHEN coalesce(NEW.values ->> 'severity', '') NOT IN ('low', 'medium', 'high')
            THEN 'The severity is low, medium or high.'
        WHEN NEW.kind IN ('opened', 'due')
             AND (NEW.values ->> 'due')::date < (clock_timestamp() AT TIME ZONE 'UTC')::date
            THEN 'The due date is over already.'
        WHEN NEW.kind IN ('close_asked', 'closed') AND coalesce(NEW.values ->> 'disposition', '')
             NOT IN ('benign', 'event', 'incident', 'rule_change')
            THEN 'Closing needs what it turned out to be.'
        WHEN NEW.kind = 'close_asked' AND NOT needs_two
            THEN 'This exception needs no second person: close it.'
        WHEN NEW.kind = 'close_asked' AND finding.asked_by <> ''
            THEN format('“%s” has asked for that already.', finding.asked_by)
        WHEN NEW.kind = 'closed' AND needs_two AND finding.asked_by = ''
            THEN 'What is or was of high severity is closed by two people: ask for it first.'
        WHEN NEW.kind = 'closed' AND finding.asked_by = NEW."by"
            THEN 'Whoever asked for closing cannot confirm it: a second person has to.'
        WHEN NEW.kind = 'closed' AND finding.asked_by <> ''
             AND NEW.values ->> 'disposition' <> finding.disposition
            THEN 'Confirmed is what was asked for, or it is reopened.'
        WHEN NEW.kind = 'reopened' AND NOT finding.is_closed AND finding.asked_by = ''
            THEN 'This exception is open.'
        WHEN (NEW.kind = 'correction') <> (NEW.supersedes_id IS NOT NULL)
            THEN 'A correction, and nothing else, says what it corrects.'
        WHEN NEW.kind = 'correction' AND NOT EXISTS (
            SELECT FROM audit_findingstep
            WHERE id = NEW.supersedes_id AND finding_id = NEW.finding_id AND text <> '')
            THEN 'This exception has no such words to correct.'
        WHEN NEW.kind = 'correction' AND EXISTS (
            SELECT FROM audit_findingstep WHERE supersedes_id = NEW.supersedes_id)
            THEN 'These words were corrected already: correct the correction.'
    END);
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER checked BEFORE INSERT ON audit_findingstep
    FOR EACH ROW EXECUTE FUNCTION audit_check_finding_step()
"""

APPLY_FINDING_STEP = """
CREATE FUNCTION audit_apply_finding_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE audit_finding SET
        owner = NEW.values ->> 'owner', severity = NEW.values ->> 'severity',
        due = (NEW.values ->> 'due')::date, is_closed = (NEW.values -> 'is_closed')::boolean,
        disposition = NEW.values ->> 'disposition', asked_by = NEW.values ->> 'asked_by'
    WHERE number = NEW.finding_id AND audit_finding_state(audit_finding) <> NEW.values;
    RETURN NULL;
END $$;
CREATE TRIGGER applied AFTER INSERT ON audit_findingstep
    FOR EACH ROW EXECUTE FUNCTION audit_apply_finding_step()
"""

GUARD_FINDINGS = """
CREATE FUNCTION audit_guard_finding() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM audit_refuse_deed(CASE
        WHEN (NEW.number, NEW.title, NEW.category, NEW.opened_at, NEW.opened_by)
             IS DISTINCT FROM
             (OLD.number, OLD.title, OLD.category, OLD.opened_at, OLD.opened_by)
            THEN 'An exception stays as it was opened.'
        WHEN audit_finding_state(NEW) IS DISTINCT FROM (
            SELECT values FROM audit_findingstep WHERE finding_id = NEW.number
            ORDER BY number DESC LIMIT 1)
            THEN 'Only a step changes the state of an exception.'
    END);
    RETURN NEW;
END $$;
CREATE TRIGGER state_is_that_of_steps BEFORE UPDATE ON audit_finding
    FOR EACH ROW EXECUTE FUNCTION audit_guard_finding();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON audit_finding
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
ALTER TABLE audit_finding ENABLE ALWAYS TRIGGER kept
"""

CHECK_FINDING_LINK = """
CREATE FUNCTION audit_check_finding_link() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM audit_refuse_deed(CASE
        WHEN NOT audit_may_review(NEW."by") THEN format('“%s” may not review exceptions.', NEW."by")
        WHEN EXISTS (SELECT FROM audit_finding WHERE number = NEW.finding_id AND is_closed)
            THEN 'This exception is closed; reopen it first.'
        WHEN NEW.event_id IS NOT NULL
             AND NOT EXISTS (SELECT FROM audit_auditevent WHERE id = NEW.event_id)
            THEN format('There is no event %s.', NEW.event_id)
    END);
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER checked BEFORE INSERT ON audit_findinglink
    FOR EACH ROW EXECUTE FUNCTION audit_check_finding_link()
"""

# --- marks -------------------------------------------------------------------------------------

CHECK_MARK = """
CREATE FUNCTION audit_check_mark() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM audit_refuse_deed(CASE
        WHEN NOT audit_may_review(NEW."by") THEN format('“%s” may not review events.', NEW."by")
        WHEN NEW.kind NOT IN ('looked_at', 'comment') THEN 'There is no such mark.'
        WHEN NEW.kind = 'comment' AND btrim(NEW.text) = '' THEN 'A comment needs words.'
        WHEN NEW.kind = 'looked_at' AND NEW.text <> '' THEN 'Words are a comment.'
        WHEN NOT EXISTS (SELECT FROM audit_auditevent WHERE id = NEW.event_id)
            THEN format('There is no event %s.', NEW.event_id)
    END);
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER checked BEFORE INSERT ON audit_mark
    FOR EACH ROW EXECUTE FUNCTION audit_check_mark()
"""

APPEND_ONLY = ("audit_alertstep", "audit_findingstep", "audit_findinglink", "audit_mark")

ALWAYS = {
    "audit_alertstep": ("checked", "applied"),
    "audit_alert": ("state_is_that_of_steps",),
    "audit_finding": ("opened", "has_begun", "state_is_that_of_steps"),
    "audit_findingstep": ("checked", "applied"),
    "audit_findinglink": ("checked",),
    "audit_mark": ("checked",),
}

UNDO = {
    MAY_REVIEW: "DROP FUNCTION audit_may_review(text)",
    REFUSE_DEED: "DROP FUNCTION audit_refuse_deed(text)",
    CHECK_ALERT_STEP: "DROP FUNCTION audit_check_alert_step() CASCADE",
    APPLY_ALERT_STEP: "DROP FUNCTION audit_apply_alert_step() CASCADE",
    GUARD_ALERTS: "DROP FUNCTION audit_guard_alert_state() CASCADE",
    FINDING_STATE: "DROP FUNCTION audit_finding_state(audit_finding)",
    OPEN_FINDING: "DROP FUNCTION audit_open_finding() CASCADE;"
    "DROP FUNCTION audit_finding_has_begun() CASCADE",
    CHECK_FINDING_STEP: "DROP FUNCTION audit_check_finding_step() CASCADE",
    APPLY_FINDING_STEP: "DROP FUNCTION audit_apply_finding_step() CASCADE",
    GUARD_FINDINGS: "DROP FUNCTION audit_guard_finding() CASCADE;"
    "DROP TRIGGER kept ON audit_finding",
    CHECK_FINDING_LINK: "DROP FUNCTION audit_check_finding_link() CASCADE",
    CHECK_MARK: "DROP FUNCTION audit_check_mark() CASCADE",
}


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_review"), ("auth", "0012_alter_user_first_name_max_length")]

    operations = [
        *(migrations.RunSQL(made, undone) for made, undone in UNDO.items()),
        *(
            migrations.RunSQL(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}", "")
            for table, triggers in ALWAYS.items()
            for trigger in triggers
        ),
        *(
            migrations.RunSQL(
                f"SELECT audit_guard('{table}')", f"DROP TRIGGER append_only ON {table}"
            )
            for table in APPEND_ONLY
        ),
    ]
