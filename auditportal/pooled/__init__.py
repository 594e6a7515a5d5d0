"""The database backend of `settings.DATABASES` where a server of its own is named."""
