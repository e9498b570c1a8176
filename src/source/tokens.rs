//! One token of OIDC for all clients of a configuration.
//!
//! A thread renews it after half of its life, so that no client waits for the endpoint, which may be
//! away for the other half. Clients wait for the first one only.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;

use super::backoff::Backoff;
use super::oidc::{Token, TokenClient, TokenError};
use crate::events::daemon::TokenNotRenewed;
use crate::record::EventTime;

/// The pause after a failure while no token is valid.
const RETRY: Duration = Duration::from_secs(2);
/// The shortest pause after a token, however short its life.
const PAUSE_MIN: Duration = Duration::from_millis(500);

impl From<TokenError> for KafkaError {
    fn from(error: TokenError) -> Self {
        Self::ClientCreation(error.to_string())
    }
}

#[derive(Default)]
struct TokenState {
    token: Option<Token>,
    /// Of the last request.
    failure: Option<TokenError>,
    is_running: bool,
    is_stopped: bool,
}

impl TokenState {
    fn valid(&self) -> Option<&Token> {
        let now = EventTime::now().as_millis();
        self.token.as_ref().filter(|token| now < token.expires)
    }
}

struct SharedState {
    client: TokenClient,
    state: Mutex<TokenState>,
    /// The thread has asked, or is to end.
    changed: Condvar,
}

impl SharedState {
    fn lock(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one token after another until nobody needs them any more.
    fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            // Whoever waits must get an answer.
            let fetched = catch_unwind(AssertUnwindSafe(|| self.client.fetch()));
            let panicked = |_| Err(self.client.failed("the request panicked".to_owned()));
            let mut state = self.lock();
            let pause = match fetched.unwrap_or_else(panicked) {
                Ok(token) => {
                    backoff = Backoff::default();
                    let life = token.expires.saturating_sub(token.given);
                    state.failure = None;
                    state.token = Some(token);
                    Duration::from_millis(u64::try_from(life / 2).unwrap_or(0)).max(PAUSE_MIN)
                }
                Err(error) => {
                    let is_valid = state.valid().is_some();
                    if is_valid {
                        TokenNotRenewed { error: &error }.emit();
                    }
                    state.failure = Some(error);
                    if is_valid { backoff.wait() } else { RETRY }
                }
            };
            self.changed.notify_all();
            let waits = |state: &mut TokenState| !state.is_stopped;
            let waited = self.changed.wait_timeout_while(state, pause, waits);
            if waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped {
                return;
            }
        }
    }
}

/// Dropping it ends its thread, after the request that it is in.
struct TokenSource(Arc<SharedState>);

impl TokenSource {
    fn new(client: TokenClient) -> Self {
        Self(Arc::new(SharedState {
            client,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// A token that is valid now.
    fn token(&self) -> Result<Token, TokenError> {
        let mut state = self.0.lock();
        if !state.is_running {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("token".to_owned());
            let none = |error| self.0.client.failed(format!("no thread: {error}"));
            thread.spawn(move || shared.run()).map_err(none)?;
            state.is_running = true;
        }
        loop {
            match (state.valid(), &state.failure) {
                (Some(token), _) => return Ok(token.clone()),
                (None, Some(error)) => return Err(error.clone()),
                (None, None) => {}
            }
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for TokenSource {
    fn drop(&mut self) {
        self.0.lock().is_stopped = true;
        self.0.changed.notify_all();
    }
}

/// The tokens of a client; none where its properties do not choose OIDC.
#[derive(Clone, Default)]
pub struct Tokens(Option<Arc<TokenSource>>);

impl Tokens {
    /// Those of the properties. What is wrong with them is reported when they are read.
    fn of(properties: &BTreeMap<String, String>) -> Self {
        let client = TokenClient::new(properties).ok().flatten();
        Self(client.map(|client| Arc::new(TokenSource::new(client))))
    }

    /// Whether the client needs them.
    pub fn are_needed(&self) -> bool {
        self.0.is_some()
    }

    /// Whether there is a token where one is needed. Waits for the first one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn check(&self) -> Result<(), TokenError> {
        let source = self.0.as_ref();
        source.map_or(Ok(()), |source| source.token().map(drop))
    }

    /// Whose the last token is.
    pub(super) fn principal(&self) -> Option<String> {
        let state = self.0.as_ref()?.0.lock();
        state.token.as_ref().map(|token| token.principal.clone())
    }

    /// What a client's context answers librdkafka, which then fills in the token, or reports the
    /// error.
    ///
    /// # Errors
    /// Why there is no token.
    pub fn answer(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let source = self.0.as_ref().ok_or(
            "outlierd gets one with sasl.oauthbearer.method = \"oidc\" in [kafka.properties]",
        )?;
        let token = source.token()?;
        let now = EventTime::now().as_millis();
        Ok(OAuthToken {
            token: token.text,
            principal_name: token.principal,
            // librdkafka asks for the next token after 80 % of it, to the second, and needs that after
            // 90 % of what the brokers take for the life, to authenticate its connections again.
            lifetime_ms: now + (token.expires - now) / 2,
        })
    }
}

/// The tokens of all clients of some properties: copies of the settings share them.
#[derive(Clone, Default)]
pub struct SharedTokens(Arc<OnceLock<Tokens>>);

impl SharedTokens {
    pub(super) fn of(&self, properties: &BTreeMap<String, String>) -> Tokens {
        self.0.get_or_init(|| Tokens::of(properties)).clone()
    }
}

/// They follow from the properties.
impl PartialEq for SharedTokens {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for SharedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedTokens")
    }
}
