from django.contrib import admin
from django.utils.html import format_html

from .models import Sighting


@admin.register(Sighting)
class SightingAdmin(admin.ModelAdmin):
    list_display = ["plant", "place", "seen_on", "observer", "number", "published_at"]
    list_filter = ["published_at", "seen_on"]
    list_select_related = ["observer"]
    search_fields = ["plant", "scientific_name", "place", "observer__username"]
    date_hierarchy = "seen_on"
    readonly_fields = ["number", "observer", "published_at", "preview", "created_at", "changed_at"]
    actions = ["publish"]

    def has_add_permission(self, request):
        # A sighting belongs to whoever saw it: it is added on the site.
        return False

    @admin.display(description="preview")
    def preview(self, obj):
        return format_html('<img src="{}" width="240" alt="">', obj.small_photo.url) if obj.small_photo else "none"

    @admin.action(description="Publish the selected drafts", permissions=["change"])
    def publish(self, request, queryset):
        drafts = list(queryset.filter(number__isnull=True).order_by("created_at"))
        for draft in drafts:
            draft.publish()
        self.message_user(request, f"{len(drafts)} published.")
