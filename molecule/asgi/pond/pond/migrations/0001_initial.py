from django.db import migrations, models


def hatch(apps, schema_editor):
    apps.get_model("pond", "Duck").objects.create(name="Alice")


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Duck", [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20))]
        ),
        migrations.RunPython(hatch, migrations.RunPython.noop),
    ]
