"""Allocation: which widths and group counts every layer gets under the budgets."""
