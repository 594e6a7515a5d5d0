"""What the portal's pages are measured against: Django's own ModelAdmin over the same table."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.admin import AdminSite, ModelAdmin
from django.urls import path

from audit.models import AuditEvent
from auditportal.urls import urlpatterns

PAGE_SIZE = 50


class StockAdmin(ModelAdmin):
    """As one would write it down: columns, filters, dates, search."""

    list_display: ClassVar = (
        "occurred_at", "action", "outcome", "user_id", "ip_address", "resource_id", "source",
    )  # fmt: skip
    list_filter: ClassVar = ("category", "outcome", "source")
    date_hierarchy = "occurred_at"
    search_fields: ClassVar = ("user_id", "ip_address", "resource_id", "user_agent", "context",
                               "personal_context")  # fmt: skip
    ordering: ClassVar = ("-occurred_at",)
    list_per_page = PAGE_SIZE


site = AdminSite("stock")
site.register(AuditEvent, StockAdmin)
urlpatterns = [*urlpatterns, path("stock/", site.urls)]
