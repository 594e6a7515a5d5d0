from django.contrib.admin.apps import AdminConfig


class PortalAdminConfig(AdminConfig):
    """The stock admin with the portal's own site: its front door is the overview."""

    default_site = "audit.admin.site.PortalSite"
