"""Applications and their API keys. A key is shown once, on the page that follows its making."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.ingest import PORTAL
from audit.keys import issue_key, require_future, revoke_key
from audit.models import ApiKey, Scope, Source


class SourceForm(forms.ModelForm):
    """A source; its name is taken over into evidence and so never changes afterwards."""

    class Meta:
        model = Source
        fields = ("name", "description")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name == PORTAL:
            raise ValidationError(f"“{PORTAL}” is the portal itself; choose another name.")
        return name


class SourceAdmin(admin.ModelAdmin):
    """The applications that write events."""

    form = SourceForm
    list_display = ("name", "description", "created")
    search_fields = ("name", "description")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": "Sources"} | (extra_context or {}))

    @admin.display(description="Created", ordering="created_at")
    def created(self, source: Source) -> str:
        return f"{source.created_at:%Y-%m-%d %H:%M} UTC"

    def has_delete_permission(self, request: HttpRequest, obj: Source | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Source | None = None) -> list[str]:
        return ["name"] if obj else []


class ApiKeyForm(forms.ModelForm):
    """A new key."""

    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.WRITE],
        help_text="What the key opens. An application that only writes needs nothing more.",
    )

    expiry_date = forms.DateTimeField(
        label="Expires (UTC)",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="From then on the key opens nothing. Leave it empty for a key without an end.",
    )

    class Meta:
        model = ApiKey
        fields = ("source", "name", "scopes", "rate", "expiry_date")
        help_texts = {"name": "For people, to tell this key from the source's others."}

    def clean_expiry_date(self) -> datetime | None:
        expires: datetime | None = self.cleaned_data["expiry_date"]
        require_future(expires)
        return expires


class RevokeForm(forms.ModelForm):
    """The one change that a key knows: to be revoked, with a reason."""

    reason = forms.ChoiceField(
        label="Why revoke it",
        choices=[
            ("", "choose a reason"),
            ("replaced", "replaced by another key"),
            ("leaked", "it leaked, or may have"),
            ("unused", "no longer needed"),
        ],
        help_text="Kept with the event that records it. A revoked key opens nothing any more, "
        "and cannot be brought back.",
    )

    class Meta:
        model = ApiKey
        fields = ()


FIXED = ["prefix", "source", "name", "opens", "limit", "state", "issued", "expires"]
"""What a key's page shows and nobody changes."""


class ApiKeyAdmin(admin.ModelAdmin):
    """Issuing and revoking keys; neither can be undone, both are events."""

    list_display = ("prefix", "name", "source", "opens", "state", "issued", "expires")
    list_select_related = ("source",)
    search_fields = ("prefix", "name", "source__name")
    list_filter = ("revoked",)

    @admin.display(description="Scopes")
    def opens(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="Events per minute")
    def limit(self, key: ApiKey) -> str:
        return "any number" if key.rate is None else str(key.rate)

    @admin.display(description="Issued", ordering="created")
    def issued(self, key: ApiKey) -> str:
        return f"{key.created:%Y-%m-%d %H:%M} UTC"

    @admin.display(description="Expires", ordering="expiry_date")
    def expires(self, key: ApiKey) -> str:
        return f"{key.expiry_date:%Y-%m-%d %H:%M} UTC" if key.expiry_date else "never"

    @admin.display(description="State")
    def state(self, key: ApiKey) -> str:
        if key.revoked:
            return "revoked"
        return "expired" if key.has_expired else "in use"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": "API keys"} | (extra_context or {}))

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        is_over = obj is not None and obj.revoked
        return not is_over and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[Any]]:
        form = RevokeForm if change else ApiKeyForm
        return super().get_form(request, obj, change, **kwargs | {"form": form})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ["source", "name", "scopes", "rate", "expiry_date"]
        return [*FIXED, "reason"] if self.has_change_permission(request, obj) else FIXED

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        return FIXED if obj else []

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if not change:
            issued, obj.text = issue_key(  # type: ignore[attr-defined]  # for the next page only
                source=obj.source.name,
                name=obj.name,
                scopes=obj.scopes,
                expires=obj.expiry_date,
                rate=obj.rate,
            )
            obj.pk, obj.prefix = issued.pk, issued.prefix
        else:
            revoke_key(obj, reason=form.cleaned_data["reason"])

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": "API key issued",
            "opts": self.opts,
            "issued": obj,
            "secret": obj.text,  # type: ignore[attr-defined]  # put there by save_model
        }
        return TemplateResponse(request, "audit/key_issued.html", context)
