"""A tus 1.0 server for resumable uploads that never loses a byte it acknowledged."""

from tusd_py.app import Settings, TusApp
from tusd_py.asgi.settings import HttpSettings
from tusd_py.auth.interface import InvalidKeys
from tusd_py.auth.signed import SignedUrls
from tusd_py.engine.services import Fsync, Timing
from tusd_py.engine.sweep import SweepReport
from tusd_py.hooks.interface import (
    Access,
    Changes,
    FinishedUpload,
    NewUpload,
    Progress,
    RequestInfo,
    UploadEvent,
    UploadInfo,
)
from tusd_py.protocol.cors import CorsPolicy
from tusd_py.protocol.errors import Rejected as Reject
from tusd_py.protocol.errors import TusError, UploadNotFinished, UploadNotFound
from tusd_py.protocol.grant import Grant
from tusd_py.protocol.upload import Phase, Reply
from tusd_py.state.filesystem import NetworkFileSystem
from tusd_py.state.sqlite import NewerDatabase
from tusd_py.storage.disk import DiskStorage
from tusd_py.storage.interface import WrongInstance
from tusd_py.storage.template import InvalidTemplate

__version__ = "0.1.0"

__all__ = [
    "Access",
    "Changes",
    "CorsPolicy",
    "DiskStorage",
    "FinishedUpload",
    "Fsync",
    "Grant",
    "HttpSettings",
    "InvalidKeys",
    "InvalidTemplate",
    "NetworkFileSystem",
    "NewUpload",
    "NewerDatabase",
    "Phase",
    "Progress",
    "Reject",
    "Reply",
    "RequestInfo",
    "Settings",
    "SignedUrls",
    "SweepReport",
    "Timing",
    "TusApp",
    "TusError",
    "UploadEvent",
    "UploadInfo",
    "UploadNotFinished",
    "UploadNotFound",
    "WrongInstance",
    "__version__",
]
