"""Runs over a grid of settings: at what rank does identity become stable, and is it duration or volume?"""
