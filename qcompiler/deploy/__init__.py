"""Deployment: a written model as a complete folder for an inference server, operator library included."""

from qcompiler.deploy.deploying import Deployed, deploy_model
from qcompiler.deploy.options import SERVERS, TARGETS, DeployOptions

__all__ = ["SERVERS", "TARGETS", "DeployOptions", "Deployed", "deploy_model"]
