//! Fields that name a state, such as the mode of a machine: text, numbers or booleans of a known list.
//! In a row, a state is its index in the list.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// States of a field at most.
pub const STATES_MAX: usize = 64;

/// The states of a field, in the order of the configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct States(Vec<State>);

#[derive(Clone, PartialEq, Debug)]
struct State {
    /// As alerts and errors name it.
    text: String,
    /// Where it is a number, which a message may write in another way.
    number: Option<f64>,
}

/// A state as the configuration writes it.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StateValue {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
}

impl StateValue {
    /// As alerts and errors name it.
    pub fn text(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.trim().to_owned(),
        }
    }
}

impl States {
    /// The states of a configuration.
    ///
    /// # Errors
    /// Fewer than two of them, too many, or one twice.
    pub fn new(values: &[StateValue]) -> Result<Self, String> {
        let texts: Vec<String> = values.iter().map(StateValue::text).collect();
        if !(2..=STATES_MAX).contains(&texts.len()) {
            return Err(format!(
                "`values` has {} states; 2 to {STATES_MAX} are allowed",
                texts.len()
            ));
        }
        let twice = |at: usize| texts[..at].contains(&texts[at]);
        if let Some(at) = (0..texts.len()).find(|&at| twice(at)) {
            return Err(format!("`values` has {:?} twice", texts[at]));
        }
        let state = |text: String| State {
            number: text.parse().ok().filter(|number: &f64| number.is_finite()),
            text,
        };
        Ok(Self(texts.into_iter().map(state).collect()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The index of a state that a message has as text.
    pub fn of_text(&self, text: &str) -> Option<f64> {
        let text = text.trim();
        let named = self.0.iter().position(|state| state.text == text);
        let number = || text.parse().ok().and_then(|number| self.of_number(number));
        named.map(|index| index as f64).or_else(number)
    }

    /// That of one that a message has as a number.
    pub fn of_number(&self, number: f64) -> Option<f64> {
        let found = self.0.iter().position(|state| state.number == Some(number));
        found.map(|index| index as f64)
    }

    /// That of one that a message has as `true` or `false`: by that name, or as 1 or 0.
    pub fn of_flag(&self, flag: bool) -> Option<f64> {
        let named = self.of_text(if flag { "true" } else { "false" });
        named.or_else(|| self.of_number(f64::from(u8::from(flag))))
    }

    /// The state of an index; `None` where a row has none.
    pub fn name(&self, index: f64) -> Option<&str> {
        let is_index = index >= 0.0 && index < self.0.len() as f64;
        let state = is_index.then(|| self.0.get(index as usize)).flatten();
        state.map(|state| state.text.as_str())
    }

    /// All of them in each way in which JSON writes them.
    pub fn in_json(&self) -> Vec<Value> {
        let ways = |state: &State| {
            let flag = state.text.parse::<bool>().ok().map(Value::from);
            let number = state.number.map(Value::from);
            [Some(state.text.as_str().into()), flag, number]
        };
        self.0.iter().flat_map(ways).flatten().collect()
    }

    /// All of them, for errors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|state| state.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(values: &[StateValue]) -> States {
        States::new(values).unwrap()
    }

    #[test]
    fn a_state_is_found_however_a_message_writes_it() {
        let text = |text: &str| StateValue::Text(text.into());
        let modes = states(&[text("off"), text("run"), text("cleaning")]);
        assert_eq!(modes.of_text(" run "), Some(1.0));
        assert_eq!(modes.of_text("Run"), None);
        assert_eq!(modes.of_number(1.0), None, "an index is no name");
        assert_eq!(modes.name(2.0), Some("cleaning"));
        assert_eq!((modes.name(3.0), modes.name(f64::NAN)), (None, None));
        let codes = states(&[StateValue::Integer(0), StateValue::Integer(7)]);
        assert_eq!(codes.of_number(7.0), Some(1.0));
        assert_eq!(codes.of_text("7.0"), Some(1.0));
        assert_eq!(codes.of_flag(false), Some(0.0));
        let flags = states(&[StateValue::Flag(false), StateValue::Flag(true)]);
        assert_eq!(flags.of_flag(true), Some(1.0));
        assert_eq!(flags.of_text("true"), Some(1.0));
        assert_eq!(flags.of_number(1.0), None);
    }

    #[test]
    fn lists_that_name_no_states_are_refused() {
        let text = |text: &str| StateValue::Text(text.into());
        assert!(States::new(&[text("on")]).is_err());
        let twice = States::new(&[text("1"), StateValue::Integer(1)]);
        assert_eq!(twice.unwrap_err(), "`values` has \"1\" twice");
        let many: Vec<StateValue> = (0..65).map(StateValue::Integer).collect();
        assert!(States::new(&many).unwrap_err().contains("65 states"));
    }
}
