"""The portal's admin site."""

from django.contrib import admin


class PortalSite(admin.AdminSite):
    """The stock admin under the portal's name."""

    site_title = "AuditPortal"
    site_header = "AuditPortal"
    index_title = "Overview"
