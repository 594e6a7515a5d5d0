"""Applications and their API keys. A key is shown once, on the page that follows its making."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.ingest import PORTAL
from audit.keys import issue_key, revoke_key
from audit.models import ApiKey, Scope, Source
from audit.recorder import whose


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
    list_display = ("name", "description", "created_at")
    search_fields = ("name", "description")

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
        fields = ("source", "name", "scopes", "expiry_date")


class RevokeForm(forms.ModelForm):
    """The one change that a key knows: to be revoked, with a reason."""

    reason = forms.ChoiceField(
        choices=[
            ("replaced", "replaced by another key"),
            ("leaked", "it leaked, or may have"),
            ("unused", "no longer needed"),
        ],
        help_text="Kept with the event that records the revocation.",
    )

    class Meta:
        model = ApiKey
        fields = ("revoked",)


class ApiKeyAdmin(admin.ModelAdmin):
    """Issuing and revoking keys; neither can be undone, both are events."""

    list_display = ("prefix", "name", "source", "opens", "created", "expiry_date", "revoked")
    list_select_related = ("source",)
    search_fields = ("prefix", "name", "source__name")
    list_filter = ("revoked",)

    @admin.display(description="Scopes")
    def opens(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[Any]]:
        form = RevokeForm if change else ApiKeyForm
        return super().get_form(request, obj, change, **kwargs | {"form": form})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ["source", "name", "scopes", "expiry_date"]
        fixed = ["prefix", "source", "name", "opens", "expiry_date", "created", "revoked"]
        return fixed if obj.revoked else [*fixed, "reason"]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        if obj is None:
            return []
        fixed = ["prefix", "source", "name", "opens", "expiry_date", "created"]
        return [*fixed, "revoked"] if obj.revoked else fixed

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if not change:
            made, request.new_key = issue_key(  # type: ignore[attr-defined]  # for the next page
                source=obj.source.name,
                name=obj.name,
                scopes=obj.scopes,
                expires=obj.expiry_date,
                who=whose(request),
            )
            obj.__dict__.update(made.__dict__)
        elif obj.revoked:
            revoke_key(obj, reason=form.cleaned_data["reason"], who=whose(request))

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": "API key issued",
            "opts": self.opts,
            "issued": obj,
            "secret": request.new_key,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "audit/key_issued.html", context)
