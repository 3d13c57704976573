"""Deployment control: releases, staged rollouts, and the manifests that follow from them."""
