//! All that can be asked of the API. By this list requests find who answers them, tests ask everything as everyone, and
//! the API is described for programs (`openapi.rs`).

use std::sync::Arc;

use axum::{
    handler::Handler,
    http::Method,
    routing::{self, MethodRouter},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    Api, access_tokens, account, devices, host_keys, keys, lists, login, metrics, openapi, operators, parts,
    provisioning, recordings, server, ssh_account, tasks, users, video,
    view::{
        AcceptedHostKey, AccessTokenAnswer, AccessTokenRequest, AccessTokenRevoked, AccessTokenView,
        CameraView, CodeRequest, DeviceView, EventView, FirstLoginRequest, HostKeyRequest, HostKeysView,
        KeyAnswer, KeyRequest, LoggedInAnswer, LoginRequest, LoginView, MeView, MessageView, OneTimeLogin,
        OperatorRequest, OperatorRevokeAnswer, OperatorView, Page, PartsView, PasswordChange,
        PasswordRequest, PingAnswer, ProvisioningAnswer, ProvisioningRequest, ProvisioningView,
        RecordingRequest, RecordingView, RevokeAnswer, RoleAnswer, RoleRequest, RotateAnswer, RotateRequest,
        SendRequest, SentAnswer, SessionView, StatusView, StopAnswer, TaskRequest, TaskView, TokenAnswer,
        TokenRequest, TotpAnswer, TotpRemoval, ViewerView, WiredAnswer, WiredRequest,
    },
};

/// Describes the JSON of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What can be asked: a method, a path below `/api/v1`, and who answers.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) handler: MethodRouter<Arc<Api>>,
    /// What it is for, in a few words.
    pub(super) about: &'static str,
    /// What stands behind the path.
    pub(super) options: Option<SchemaOf>,
    /// What is sent with it.
    pub(super) takes: Option<SchemaOf>,
    /// The statuses and the bodies of answers, if they have one.
    pub(super) gives: Vec<(u16, Option<SchemaOf>)>,
    /// Whether it may be followed: as server-sent events.
    pub(super) is_followed: bool,
}

impl Route {
    fn new(method: Method, path: &'static str, handler: MethodRouter<Arc<Api>>, about: &'static str) -> Self {
        let (options, takes, gives) = (None, None, Vec::new());
        Self { method, path, handler, about, options, takes, gives, is_followed: false }
    }

    /// What stands behind the path.
    fn options<T: JsonSchema>(mut self) -> Self {
        self.options = Some(T::json_schema);
        self
    }

    /// What is sent with it.
    fn takes<T: JsonSchema>(mut self) -> Self {
        self.takes = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// What is answered, with this status.
    fn gives_with<T: JsonSchema>(mut self, status: u16) -> Self {
        self.gives.push((status, Some(SchemaGenerator::subschema_for::<T>)));
        self
    }

    fn gives<T: JsonSchema>(self) -> Self {
        self.gives_with::<T>(200)
    }

    fn creates<T: JsonSchema>(self) -> Self {
        self.gives_with::<T>(201)
    }

    /// It is answered with this status, and no JSON.
    fn gives_only(mut self, status: u16) -> Self {
        self.gives.push((status, None));
        self
    }

    fn followed(mut self) -> Self {
        self.is_followed = true;
        self
    }
}

fn get<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, handler: H, about: &'static str) -> Route {
    Route::new(Method::GET, path, routing::get(handler), about)
}

fn post<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, handler: H, about: &'static str) -> Route {
    Route::new(Method::POST, path, routing::post(handler), about)
}

/// All that can be asked by those who are known. A test asks each, as everyone.
#[rustfmt::skip]
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/openapi.json", openapi::show, "This description").gives_only(200),
        get("/status", server::status, "How the server is doing").gives::<StatusView>(),
        get("/parts", parts::list, "What the server consists of, and how it stands")
            .options::<parts::Selection>().gives::<PartsView>().followed(),
        get("/metrics", metrics::show, "What the server counts, for Prometheus").gives_only(200),
        post("/stop", server::stop, "Stops the server").gives_with::<StopAnswer>(202),
        post("/tokens", server::make_token, "Makes an enrolment line")
            .takes::<TokenRequest>().creates::<TokenAnswer>(),
        get("/provisioning", provisioning::show, "What stands in the provisioning blocks of microcontrollers")
            .gives::<ProvisioningView>(),
        post("/provisioning", provisioning::register, "Registers devices whose keys are made already")
            .takes::<ProvisioningRequest>().creates::<ProvisioningAnswer>(),
        post("/keys/rotate", keys::rotate, "Takes the server's next key into use")
            .takes::<RotateRequest>().gives::<RotateAnswer>(),
        post("/ssh-account/keys", ssh_account::keys, "What a device's key may do now, for the server's SSH server")
            .takes::<KeyRequest>().gives::<KeyAnswer>(),
        get("/me", account::me, "Who asks").gives::<MeView>(),
        post("/me/password", account::set_password, "Changes one's own password")
            .takes::<PasswordChange>().gives::<MeView>(),
        post("/me/totp", account::offer_totp, "Offers a second factor")
            .takes::<PasswordRequest>().gives::<TotpAnswer>(),
        post("/me/totp/confirm", account::confirm_totp, "Turns the second factor on")
            .takes::<CodeRequest>().gives::<MeView>(),
        post("/me/totp/remove", account::remove_totp, "Turns the second factor off")
            .takes::<TotpRemoval>().gives::<MeView>(),
        get("/logins", account::logins, "Browsers in which somebody is logged in")
            .options::<account::Whose>().gives::<Page<LoginView>>(),
        post("/logins/{id}/revoke", account::revoke, "Ends a login").gives::<LoginView>(),
        post("/logout", account::logout, "Ends the login that asks").gives_only(200),
        get("/operators", operators::list, "All operators").gives::<Page<OperatorView>>(),
        post("/operators", users::add, "Makes an operator")
            .takes::<OperatorRequest>().creates::<OneTimeLogin>(),
        post("/operators/{name}/login", users::offer_login, "Makes a one-time login").creates::<OneTimeLogin>(),
        post("/operators/{name}/role", users::set_role, "Gives an operator another role")
            .takes::<RoleRequest>().gives::<RoleAnswer>(),
        post("/operators/{name}/revoke", operators::revoke, "Takes an operator's rights away")
            .gives::<OperatorRevokeAnswer>(),
        get("/operators/{name}/tokens", access_tokens::list, "An operator's access tokens")
            .gives::<Page<AccessTokenView>>(),
        post("/operators/{name}/tokens", access_tokens::add, "Makes an access token")
            .takes::<AccessTokenRequest>().creates::<AccessTokenAnswer>(),
        post("/operators/{name}/tokens/{token}/revoke", access_tokens::revoke, "Ends an access token")
            .gives::<AccessTokenRevoked>(),
        get("/devices", devices::list, "All devices")
            .options::<devices::Wanted>().gives::<Page<DeviceView>>().followed(),
        post("/devices", devices::enrol_wired, "Registers a device that is wired to another one")
            .takes::<WiredRequest>().creates::<WiredAnswer>().gives::<WiredAnswer>(),
        get("/devices/{name}", devices::show, "A device").gives::<DeviceView>(),
        post("/devices/{name}/messages", devices::send, "Sends a message")
            .takes::<SendRequest>().creates::<SentAnswer>(),
        post("/devices/{name}/ping", devices::ping, "Asks a device to answer now").gives::<PingAnswer>(),
        post("/devices/{name}/revoke", devices::revoke, "Takes a device's rights away").gives::<RevokeAnswer>(),
        post("/devices/{name}/ssh", tasks::ssh, "Opens a session with the device's SSH server").gives_only(101),
        get("/devices/{name}/host-key", host_keys::show, "The host keys of a device's SSH server")
            .gives::<HostKeysView>(),
        post("/devices/{name}/host-key", host_keys::tell, "Tells which host key a device has shown")
            .takes::<HostKeyRequest>().gives_only(200),
        post("/devices/{name}/host-key/accept", host_keys::accept, "Registers a host key")
            .takes::<HostKeyRequest>().gives::<AcceptedHostKey>(),
        post("/devices/{name}/tasks", tasks::start, "Has a device do something")
            .takes::<TaskRequest>().creates::<TaskView>(),
        get("/devices/{name}/cameras", video::cameras, "A device's cameras").gives::<Page<CameraView>>(),
        get("/devices/{name}/cameras/{camera}/units", video::units, "What a camera shows, by a WebSocket")
            .gives_only(101),
        get("/devices/{name}/cameras/{camera}/live.mp4", video::live, "What a camera shows, as MP4 without an end")
            .gives_only(200),
        post("/devices/{name}/cameras/{camera}/recordings", recordings::start, "Records what a camera shows")
            .takes::<RecordingRequest>().creates::<RecordingView>(),
        get("/viewers", video::viewers, "Who looks at cameras").gives::<Page<ViewerView>>(),
        post("/viewers/{id}/stop", video::stop, "Throws somebody out who looks").gives::<ViewerView>(),
        get("/recordings", recordings::list, "What was recorded of cameras")
            .options::<recordings::Selection>().gives::<Page<RecordingView>>(),
        get("/recordings/{id}", recordings::show, "A recording").gives::<RecordingView>(),
        get("/recordings/{id}/file.mp4", recordings::file, "The file of a recording")
            .gives_only(200).gives_only(206),
        post("/recordings/{id}/stop", recordings::stop, "Ends a recording").gives::<RecordingView>(),
        post("/recordings/{id}/delete", recordings::delete, "Deletes a recording").gives::<RecordingView>(),
        get("/tasks", tasks::list, "What devices were asked to do")
            .options::<tasks::Selection>().gives::<Page<TaskView>>().followed(),
        get("/tasks/{id}", tasks::show, "A task").gives::<TaskView>(),
        post("/tasks/{id}/stop", tasks::stop, "Tells a task to stop").gives::<TaskView>(),
        get("/sessions", lists::sessions, "Connections of devices")
            .options::<lists::Selection>().gives::<Page<SessionView>>(),
        get("/messages", lists::messages, "Messages, in both directions")
            .options::<lists::Selection>().gives::<Page<MessageView>>().followed(),
        get("/events", lists::events, "What happened")
            .options::<lists::Selection>().gives::<Page<EventView>>().followed(),
    ]
}

/// The doors: what browsers ask who are not known yet.
pub(super) fn doors() -> Vec<Route> {
    vec![
        post("/login", login::login, "Logs a browser in").takes::<LoginRequest>().gives::<LoggedInAnswer>(),
        post("/login/first", login::first, "Sets the password by a one-time login, and logs in")
            .takes::<FirstLoginRequest>()
            .gives::<LoggedInAnswer>(),
    ]
}
