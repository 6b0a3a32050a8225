//! `/openapi.json`: the API, described for programs. It is made of the list of routes and of the types by which requests
//! are read and answers written, with what their comments say: so it tells what there is. `docs/openapi.json` is the
//! same, and a test holds it to that.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    asker::Asker,
    error::ApiError,
    rights::{Action, Object},
    routes::{Route, doors, routes},
    view::ErrorAnswer,
};

/// The description, as text.
static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", describe()));

/// `GET /openapi.json`
pub(super) async fn show(asker: Asker) -> Result<Response, ApiError> {
    asker.may(Action::Look, Object::Server)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response())
}

/// The whole of it: OpenAPI 3.1, whose schemas are those of JSON Schema.
pub(super) fn describe() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorAnswer>();
    let mut paths = Map::new();
    for (route, is_door) in
        routes().iter().map(|route| (route, false)).chain(doors().iter().map(|route| (route, true)))
    {
        let mut operation = operation(route, &mut generator);
        if is_door {
            operation["security"] = json!([]);
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast: the operators' API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0" },
            "description": "docs/api.md tells it for people: who may ask what, from where, and how streams go on.",
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "token": [] }, { "login": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Error": {
                    "description": "It was not done, and why.",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "An access token." },
                "login": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-holdfast",
                    "description": "A browser's login over TLS; on loopback the cookie is holdfast-PORT.",
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = names_in(route.path)
        .map(|name| {
            let schema =
                if name == "id" { json!({ "type": "integer" }) } else { json!({ "type": "string" }) };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if let Some(options) = route.options {
        parameters.extend(query(&options(generator).to_value()));
    }
    let mut operation = json!({
        "summary": route.about,
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": responses(route, generator),
    });
    if let Some(takes) = route.takes {
        let schema = takes(generator);
        let content = json!({ "application/json": { "schema": schema } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = json!({ "default": { "$ref": "#/components/responses/Error" } });
    for (status, schema) in &route.gives {
        let mut response = json!({ "description": route.about });
        if let Some(schema) = schema {
            response["content"] = json!({ "application/json": { "schema": schema(generator) } });
        }
        if route.is_followed {
            response["content"]["text/event-stream"] = json!({ "schema": { "type": "string" } });
        }
        responses[status.to_string()] = response;
    }
    responses
}

/// What stands behind the path: the members of the object that it is read into.
fn query(options: &Value) -> Vec<Value> {
    let members = options["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({ "name": name, "in": "query", "required": false, "description": about, "schema": schema })
    };
    members.map(parameter).collect()
}

/// The names in a path: of `/tasks/{id}` it is `id`.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// A name for programs: `postDevicesNameMessages`.
fn operation_id(route: &Route) -> String {
    let words =
        route.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capitalised = words.map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    route.method.as_str().to_lowercase() + &capitalised.collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::PathBuf};

    use super::{TEXT, describe};

    /// Whoever changes the API changes its description: `HOLDFAST_WRITE=1 cargo test -p holdfast --lib openapi`.
    #[test]
    fn the_description_that_is_checked_in_is_the_one_that_is_served() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        if env::var_os("HOLDFAST_WRITE").is_some() {
            fs::write(&path, TEXT.as_bytes()).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == *TEXT,
            "docs/openapi.json is not what the API is: HOLDFAST_WRITE=1 cargo test -p holdfast --lib openapi"
        );
    }

    #[test]
    fn all_that_is_referred_to_is_there() {
        let (text, description) = (TEXT.as_str(), describe());
        for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(description["components"]["schemas"][name].is_object(), "{name}");
        }
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.len() > 1, "{method} {path}: what does it answer?");
            }
        }
    }
}
