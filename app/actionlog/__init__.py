"""The record of every action, one chain per installation, that nobody can quietly rewrite and anybody can verify."""
