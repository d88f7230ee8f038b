"""Configurations of xquant and xslim, run as they are."""
