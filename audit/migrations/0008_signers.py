"""Who signs a day off needs the permission to, whoever inserts the row: the database asks as well.

By the tables of Django's own permissions, as its ModelBackend reads them.
"""

from django.db import migrations

MAY = """
CREATE FUNCTION audit_may(name text, permission text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM auth_user member
        WHERE member.username = name AND member.is_active AND (member.is_superuser OR EXISTS (
            SELECT FROM auth_permission wanted
            JOIN django_content_type kind ON kind.id = wanted.content_type_id
            WHERE kind.app_label = 'audit' AND wanted.codename = permission AND (
                EXISTS (SELECT FROM auth_user_user_permissions own
                        WHERE own.user_id = member.id AND own.permission_id = wanted.id)
                OR EXISTS (SELECT FROM auth_user_groups joined
                           JOIN auth_group_permissions given USING (group_id)
                           WHERE joined.user_id = member.id
                             AND given.permission_id = wanted.id)))))
$$
"""

MAY_REVIEW = """
CREATE OR REPLACE FUNCTION audit_may_review(name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT public.audit_may(name, 'review_alert')
$$
"""

SIGNER = """
CREATE FUNCTION audit_check_signer() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT audit_may(NEW."by", 'sign_day') THEN
        RAISE EXCEPTION '“%” may not sign days off', NEW."by" USING ERRCODE = 'AP018';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER signer BEFORE INSERT ON audit_signoff
    FOR EACH ROW EXECUTE FUNCTION audit_check_signer();
ALTER TABLE audit_signoff ENABLE ALWAYS TRIGGER signer;
CREATE TRIGGER signer BEFORE INSERT ON audit_secondsignature
    FOR EACH ROW EXECUTE FUNCTION audit_check_signer();
ALTER TABLE audit_secondsignature ENABLE ALWAYS TRIGGER signer
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_subject_index")]

    operations = [
        migrations.RunSQL(MAY, migrations.RunSQL.noop),
        migrations.RunSQL(MAY_REVIEW, migrations.RunSQL.noop),
        migrations.RunSQL(SIGNER, "DROP FUNCTION audit_check_signer() CASCADE"),
    ]
