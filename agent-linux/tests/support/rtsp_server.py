# An RTSP server with one camera, at /live, behind a user and a password, which are its arguments. It says its port.
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

Gst.init(None)
user, password = sys.argv[1:]
server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
camera = GstRtspServer.RTSPMediaFactory(
    shared=True,
    launch="( videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=10/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 ! rtph264pay name=pay0 )",
)
viewer = Gst.Structure.new_from_string("viewer, media.factory.access=true, media.factory.construct=true")
camera.add_role_from_structure(viewer)
server.get_mount_points().add_factory("/live", camera)
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "viewer")
login = GstRtspServer.RTSPAuth()
login.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
login.add_digest(user, password, token)
server.set_auth(login)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
