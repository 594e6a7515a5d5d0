"""Counts by the week, made of those by the day."""

from django.db import migrations, models

# Locked, so that a sealer counts a day either before this or in its week, too.
FILL = """
LOCK TABLE audit_dailycount IN SHARE MODE;
INSERT INTO audit_weeklycount (start, source, action, category, outcome, count)
SELECT date_trunc('week', start, 'UTC'), source, action, category, outcome, sum(count)
FROM audit_dailycount GROUP BY 1, 2, 3, 4, 5
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0011_alerts_grow")]

    operations = [
        migrations.CreateModel(
            name="WeeklyCount",
            fields=[
                ("start", models.DateTimeField()),
                ("source", models.CharField(max_length=64)),
                ("action", models.CharField(max_length=64)),
                ("category", models.CharField(max_length=32)),
                ("outcome", models.CharField(max_length=16)),
                ("count", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "start",
                        "source",
                        "action",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
            ],
            options={
                "abstract": False,
                "default_permissions": (),
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
