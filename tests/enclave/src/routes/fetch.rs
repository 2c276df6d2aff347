//! `POST /v1/fetch/html`: one built-in page for every URL. Never fetches anything.

use serde_json::Value;

/// A host that "cannot be reached", for tests of status 502.
const UNREACHABLE: &str = "unreachable.test";

pub(crate) fn answer(body: &str) -> Result<String, (i32, &'static str)> {
    let Ok(Value::Object(request)) = serde_json::from_str(body) else {
        return Err((400, "body is not a JSON object"));
    };
    let url = request
        .get("url")
        .and_then(Value::as_str)
        .ok_or((400, "url must be a string"))?;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .filter(|host| !host.is_empty());
    let host = host.ok_or((400, "url must be an http or https URL"))?;
    match request.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(headers)) if headers.values().all(Value::is_string) => {}
        Some(_) => return Err((400, "headers must be an object of strings")),
    }
    if host == UNREACHABLE {
        return Err((502, "the host cannot be reached"));
    }
    let url = escape(url);
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{url}</title></head>\n\
         <body><h1>A built-in page</h1><p>It stands for <code>{url}</code>.</p></body></html>\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_shows_its_url_escaped() {
        let page = answer(r#"{"url":"https://a.test/?q=<b>&c","headers":{"Accept":"text/html"}}"#)
            .expect("a page");
        assert!(page.contains("<code>https://a.test/?q=&lt;b&gt;&amp;c</code>"));
    }

    #[test]
    fn bad_request_and_bad_host_differ() {
        let status = |body| answer(body).map_err(|(status, _)| status).err();
        assert_eq!(status(r#"{"url":"file:///etc/passwd"}"#), Some(400));
        assert_eq!(status(r#"{"url":"https://"}"#), Some(400));
        assert_eq!(
            status(r#"{"url":"https://a.test","headers":[]}"#),
            Some(400)
        );
        assert_eq!(status(r#"{"url":"https://unreachable.test/x"}"#), Some(502));
    }
}
