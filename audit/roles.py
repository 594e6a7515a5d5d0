"""Who may do what in the portal: the staff's groups and their permissions, as a table."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission

ROLES = {
    "Auditor": "view_auditevent export_auditevent view_alert view_ruleversion view_signoff",
    "Reviewer": "view_auditevent view_alert review_alert view_ruleversion view_signoff sign_day",
    "Manager": (
        "view_auditevent export_auditevent view_alert review_alert view_ruleversion change_rule "
        "view_signoff sign_day "
        "view_source add_source change_source view_apikey add_apikey change_apikey"
    ),
}
"""Group name to the codes of its permissions. Nobody gets more than the work needs.

No group may change users: in Django's admin whoever may do that can make a superuser.
"""


def ensure(using: str) -> None:
    """Make the groups and give them exactly the permissions that stand above."""
    for name, codes in ROLES.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        wanted = Permission.objects.using(using).filter(
            content_type__app_label="audit", codename__in=codes.split()
        )
        group.permissions.set(wanted)
