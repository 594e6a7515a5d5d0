"""What the portal is measured against, served by the same gunicorn: plain DRF, done plainly."""

from __future__ import annotations

import os
from typing import ClassVar
from uuid import uuid4

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "auditportal.settings")
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from auditportal.urls import urlpatterns  # noqa: E402

TABLE = "bench_plain"


class PlainEvent(models.Model):
    """An event as an ordinary Django project would keep it; the table is like the portal's own."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    entry_version = models.PositiveSmallIntegerField(default=1)
    recorded_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    action = models.CharField(max_length=64)
    category = models.CharField(max_length=32)
    outcome = models.CharField(max_length=16)
    source = models.CharField(max_length=64)
    key = models.CharField(max_length=16, blank=True)
    actor_type = models.CharField(max_length=16, null=True)
    resource_type = models.CharField(max_length=255, null=True)
    correlation_id = models.CharField(max_length=255, null=True)
    context = models.JSONField()
    request_id = models.CharField(max_length=255, null=True)
    digests = models.JSONField()
    user_id = models.CharField(max_length=255, null=True)
    resource_id = models.CharField(max_length=255, null=True)
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=1024, null=True)
    personal_context = models.JSONField(null=True)
    purpose = models.CharField(max_length=255, null=True)

    class Meta:
        app_label = "audit"
        managed = False
        db_table = TABLE

    def __str__(self) -> str:
        return str(self.id)


class PlainSerializer(serializers.ModelSerializer):
    class Meta:
        model = PlainEvent
        fields = "__all__"


class PlainView(APIView):
    """`ModelSerializer(many=True)`, saved row by row."""

    required_scopes: ClassVar = {"POST": "write"}

    def post(self, request: Request) -> Response:
        serializer = PlainSerializer(data=request.data, many=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response({"count": len(request.data)}, status=201)


class EmptyView(APIView):
    """Nothing but what every request pays: the server, DRF, and the same authentication."""

    required_scopes: ClassVar = {"POST": "write"}

    def post(self, request: Request) -> Response:
        return Response({"count": 0}, status=201)


urlpatterns += [path("plain/", PlainView.as_view()), path("empty/", EmptyView.as_view())]
application = get_wsgi_application()
