"""Exports: columns, rows and writers, each in a module of its own."""

from audit.exports.csv import csv_file

__all__ = ["csv_file"]
