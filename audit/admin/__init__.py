"""The admin's pages: what compliance staff live in."""

from django.contrib import admin

from audit.admin.events import AuditEventAdmin
from audit.admin.keys import ApiKeyAdmin, SourceAdmin
from audit.models import ApiKey, AuditEvent, Source

admin.site.register(AuditEvent, AuditEventAdmin)
admin.site.register(Source, SourceAdmin)
admin.site.register(ApiKey, ApiKeyAdmin)
