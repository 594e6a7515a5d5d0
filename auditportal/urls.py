"""Where everything is; the names are fixed, tools outside rely on them."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from audit import views
from audit.api import log
from audit.api.problems import handler400, handler403, handler404, handler500

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("audit.api.urls")),
    path("log/checkpoint", log.CheckpointView.as_view(), name="log-checkpoint"),
    path("log/vkey", log.VerifierKeyView.as_view(), name="log-vkey"),
    path("log/handovers/<str:number>", log.HandoverView.as_view(), name="log-handover"),
    path("log/tile/entries/<path:place>", log.EntriesView.as_view(), name="log-entries"),
    path("log/tile/<path:place>", log.TileView.as_view(), name="log-tile"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
]
