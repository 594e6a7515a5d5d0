"""The API's addresses, below `/api/v1/`."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView

from audit.api import views
from audit.api.problems import unknown_path

app_name = "api"

urlpatterns = [
    path("events/", views.EventsView.as_view(), name="events"),
    path("events/<str:id>/", views.EventView.as_view(), name="event"),
    path("events/<str:id>/proof/", views.ProofView.as_view(), name="proof"),
    path("alerts/", views.AlertsView.as_view(), name="alerts"),
    path("exceptions/", views.ExceptionsView.as_view(), name="exceptions"),
    path("actions/", views.ActionsView.as_view(), name="actions"),
    path("sources/", views.SourcesView.as_view(), name="sources"),
    path("summary/", views.SummaryView.as_view(), name="summary"),
    path("export/events.csv", views.CsvExportView.as_view(), name="export-csv"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    re_path("", unknown_path),
]
