import audit.enums
import audit.models.access
import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.core.serializers.json
import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from audit.partitions import CreatePartitionedModel


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Checkpoint',
            fields=[
                ('size', models.BigIntegerField(primary_key=True, serialize=False)),
                ('root', models.BinaryField(max_length=32)),
                ('note', models.TextField()),
                ('signed_at', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='DailyCount',
            fields=[
                ('start', models.DateTimeField()),
                ('source', models.CharField(max_length=64)),
                ('action', models.CharField(max_length=64)),
                ('category', models.CharField(max_length=32)),
                ('outcome', models.CharField(max_length=16)),
                ('count', models.BigIntegerField()),
                ('pk', models.CompositePrimaryKey('start', 'source', 'action', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Follower',
            fields=[
                ('name', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('position', models.BigIntegerField(default=0)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('part', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('error', models.TextField(blank=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='HourlyCount',
            fields=[
                ('start', models.DateTimeField()),
                ('source', models.CharField(max_length=64)),
                ('action', models.CharField(max_length=64)),
                ('category', models.CharField(max_length=32)),
                ('outcome', models.CharField(max_length=16)),
                ('count', models.BigIntegerField()),
                ('pk', models.CompositePrimaryKey('start', 'source', 'action', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Leaf',
            fields=[
                ('index', models.BigIntegerField(primary_key=True, serialize=False)),
                ('event_id', models.UUIDField(unique=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='LogKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('vkey', models.TextField(unique=True)),
                ('from_size', models.BigIntegerField()),
                ('handover', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['id'],
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Pending',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), size=None)),
                ('leaves', models.BinaryField()),
                ('source', models.CharField(max_length=64)),
                ('counts', models.JSONField()),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Pruning',
            fields=[
                ('month', models.DateField(primary_key=True, serialize=False)),
                ('pruned_at', models.DateTimeField()),
                ('events', models.BigIntegerField()),
                ('reason', models.CharField(max_length=255)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Publication',
            fields=[
                ('target', models.TextField(primary_key=True, serialize=False)),
                ('size', models.BigIntegerField(null=True)),
                ('at', models.DateTimeField(null=True)),
                ('tried_at', models.DateTimeField()),
                ('error', models.TextField(blank=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Source',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='As it stands in every event, for example “payments” or “crm.eu”.', max_length=64, unique=True, validators=[django.core.validators.RegexValidator('^[a-z0-9][a-z0-9._-]*\\Z', 'Use lower-case letters, digits, dots, hyphens and underscores.')])),
                ('description', models.CharField(blank=True, max_length=255)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Throttle',
            fields=[
                ('prefix', models.CharField(max_length=16, primary_key=True, serialize=False)),
                ('tokens', models.FloatField()),
                ('filled_at', models.DateTimeField()),
                ('told_at', models.DateTimeField(null=True)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Tile',
            fields=[
                ('pk', models.CompositePrimaryKey('level', 'number', blank=True, editable=False, primary_key=True, serialize=False)),
                ('level', models.SmallIntegerField()),
                ('number', models.BigIntegerField()),
                ('hashes', models.BinaryField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Verification',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField()),
                ('first', models.BigIntegerField()),
                ('size', models.BigIntegerField()),
                ('against', models.TextField(blank=True)),
                ('verdict', models.CharField(max_length=16)),
                ('fault_count', models.BigIntegerField()),
                ('pruned', models.BigIntegerField(default=0)),
                ('faults', models.JSONField(encoder=django.core.serializers.json.DjangoJSONEncoder)),
            ],
            options={
                'ordering': ['-id'],
                'default_permissions': ('view',),
            },
        ),
        CreatePartitionedModel(
            name='AuditEvent',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('entry_version', models.PositiveSmallIntegerField(default=1)),
                ('recorded_at', models.DateTimeField()),
                ('occurred_at', models.DateTimeField()),
                ('action', models.CharField(choices=audit.enums.action_choices, max_length=64)),
                ('category', models.CharField(max_length=32)),
                ('outcome', models.CharField(max_length=16)),
                ('source', models.CharField(max_length=64)),
                ('key', models.CharField(blank=True, max_length=16)),
                ('actor_type', models.CharField(max_length=16, null=True)),
                ('resource_type', models.CharField(max_length=255, null=True)),
                ('correlation_id', models.CharField(max_length=255, null=True)),
                ('request_id', models.CharField(max_length=255, null=True)),
                ('source_seq', models.BigIntegerField(null=True)),
                ('purpose', models.CharField(max_length=255, null=True)),
                ('context', models.JSONField()),
                ('changed', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), size=None)),
                ('digests', models.JSONField()),
                ('leaf_hash', models.BinaryField(max_length=32)),
                ('user_id', models.CharField(max_length=255, null=True)),
                ('subject_id', models.CharField(max_length=255, null=True)),
                ('resource_id', models.CharField(max_length=255, null=True)),
                ('ip_address', models.GenericIPAddressField(null=True)),
                ('user_agent', models.CharField(max_length=1024, null=True)),
                ('personal_context', models.JSONField(null=True)),
                ('salt', models.BinaryField(max_length=32, null=True)),
            ],
            options={
                'verbose_name': 'event',
                'permissions': [('export_auditevent', 'Can export events')],
                'default_permissions': ('view',),
                'indexes': [models.Index(fields=['occurred_at', 'id'], name='event_time'), models.Index(fields=['category', 'occurred_at', 'id'], name='event_category'), models.Index(fields=['category', 'outcome', 'occurred_at', 'id'], name='event_category_outcome'), models.Index(fields=['outcome', 'occurred_at', 'id'], name='event_outcome'), models.Index(fields=['action', 'occurred_at', 'id'], name='event_action'), models.Index(fields=['source', 'occurred_at', 'id'], name='event_source'), models.Index(fields=['user_id', 'occurred_at', 'id'], name='event_user'), models.Index(fields=['resource_type', 'occurred_at', 'id'], name='event_resource_type'), models.Index(fields=['resource_id', 'occurred_at', 'id'], name='event_resource'), models.Index(fields=['correlation_id', 'occurred_at', 'id'], name='event_correlation'), models.Index(fields=['ip_address', 'occurred_at', 'id'], name='event_address'), django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['recorded_at'], name='event_recorded', pages_per_range=16), django.contrib.postgres.indexes.GinIndex(fields=['context', 'personal_context'], name='event_context', opclasses=['jsonb_path_ops', 'jsonb_path_ops'])],
            },
        ),
        CreatePartitionedModel(
            name='SearchText',
            fields=[
                ('event', models.OneToOneField(db_column='id', db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='text', serialize=False, to='audit.auditevent')),
                ('words', django.contrib.postgres.search.SearchVectorField()),
            ],
            options={
                'default_permissions': (),
                'indexes': [django.contrib.postgres.indexes.GinIndex(fields=['words'], name='searchtext_words')],
            },
        ),
        migrations.CreateModel(
            name='Pair',
            fields=[
                ('attempt', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='+', serialize=False, to='audit.auditevent')),
                ('is_inferred', models.BooleanField()),
                ('outcome', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='audit.auditevent')),
            ],
            options={
                'default_permissions': (),
                'indexes': [models.Index(condition=models.Q(('is_inferred', True)), fields=['outcome'], name='pair_inferred')],
            },
        ),
        migrations.CreateModel(
            name='Unpaired',
            fields=[
                ('event', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='+', serialize=False, to='audit.auditevent')),
                ('is_attempt', models.BooleanField()),
                ('operation', models.CharField(max_length=64)),
                ('source', models.CharField(max_length=64)),
                ('correlation_id', models.CharField(max_length=255, null=True)),
                ('occurred_at', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
                'indexes': [models.Index(fields=['operation', 'source', 'correlation_id', 'occurred_at'], name='unpaired_other_half'), models.Index(fields=['is_attempt', 'occurred_at', 'event'], name='unpaired_time')],
            },
        ),
        migrations.CreateModel(
            name='Log',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('origin', models.CharField(editable=False, max_length=255, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='audit_log_is_one')],
            },
        ),
        migrations.CreateModel(
            name='Refusal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('source', models.CharField(blank=True, max_length=64)),
                ('code', models.CharField(max_length=64)),
                ('pointer', models.CharField(blank=True, max_length=64)),
                ('status', models.PositiveSmallIntegerField()),
                ('key', models.CharField(blank=True, max_length=16)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('count', models.PositiveBigIntegerField()),
                ('sample', models.JSONField()),
            ],
            options={
                'default_permissions': (),
                'indexes': [models.Index(fields=['hour'], name='refusal_hour')],
                'constraints': [models.UniqueConstraint(fields=('source', 'hour', 'code', 'pointer'), name='refusal_is_one_row_an_hour')],
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.CharField(editable=False, max_length=150, primary_key=True, serialize=False, unique=True)),
                ('prefix', models.CharField(editable=False, max_length=8, unique=True)),
                ('hashed_key', models.CharField(editable=False, max_length=150)),
                ('created', models.DateTimeField(auto_now_add=True, db_index=True)),
                ('name', models.CharField(default=None, help_text='A free-form name for the API key. Need not be unique. 50 characters max.', max_length=50)),
                ('revoked', models.BooleanField(blank=True, default=False, help_text='If the API key is revoked, clients cannot use it anymore. (This cannot be undone.)')),
                ('expiry_date', models.DateTimeField(blank=True, help_text='Once API key expires, clients cannot use it anymore.', null=True, verbose_name='Expires')),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('write', 'write events'), ('read', 'read events'), ('export', 'export events'), ('ledger', "read the log's entries and proofs")], max_length=16), default=audit.models.access.default_scopes, size=None)),
                ('rate', models.PositiveIntegerField(blank=True, help_text='How many events the key may send in a minute. Leave it empty for no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='events per minute')),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='keys', to='audit.source')),
            ],
            options={
                'verbose_name': 'API key',
                'verbose_name_plural': 'API keys',
                'ordering': ('-created',),
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Cosignature',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('vkey', models.TextField()),
                ('line', models.TextField()),
                ('signed_at', models.DateTimeField()),
                ('checkpoint', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cosignatures', to='audit.checkpoint')),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('checkpoint', 'vkey'), name='cosignature_is_one')],
            },
        ),
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('query', models.TextField(blank=True, max_length=6000)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='saved_views', to=settings.AUTH_USER_MODEL)),
                ('role', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='saved_views', to='auth.group')),
            ],
            options={
                'ordering': ['name', 'id'],
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('owner', 'name'), name='view_has_a_name_of_its_own')],
            },
        ),
    ]
