from django.db import models


class Duck(models.Model):
    name = models.CharField(max_length=20)
