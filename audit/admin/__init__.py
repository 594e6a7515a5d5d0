"""The admin's pages: what compliance staff live in. `audit.admin.site` puts them together."""
