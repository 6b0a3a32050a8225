//! Keys, pins and TLS, behind a plain byte stream; the only module that knows rustls.
