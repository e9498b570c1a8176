//! A filter in the jq language, compiled once (by `jaq`, whose values are not shared between threads).

use std::cell::Cell;
use std::time::{Duration, Instant};

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Compiler, Ctx, Vars, compile, unwrap_valr};
use jaq_json::{Num, Val};
use serde_json::{Map, Value};

type Data = JustLut<Val>;
type Error = jaq_core::Error<Val>;

/// Filters that are refused: the same record has to give the same result at any time and on any
/// machine.
const REFUSED: [&str; 3] = ["now", "env", "halt"];
/// What repeats in jq, as jaq-core defines it, but with an end: a filter that never comes to one would
/// keep its thread, and fill the memory.
const LOOPS: &str = "
def repeat(f): def rec: _in_time | f, rec; rec;
def recurse(f): def rec: _in_time | ., (f | rec); rec;
def recurse: recurse(.[]?);
def recurse(f; cond): recurse(f | select(cond));
def while(cond; update): def rec: _in_time | if cond then ., (update | rec) else empty end; rec;
def until(cond; update): def rec: _in_time | if cond then . else update | rec end; rec;
def range($from; $to; $by): $from
  | if $by > 0 then while(. < $to; . + $by)
    elif $by < 0 then while(. > $to; . + $by)
    else while(. != $to; . + $by) end;
def range($from; $to): range($from; $to; 1);
def range($to): range(0; $to; 1);
";
/// How long loops may take for one value: less than a whole filter, which is then left behind.
const LIMIT: Duration = Duration::from_millis(400);
/// Nested arrays and objects of a result at most, as many as are read of JSON.
const DEPTH_MAX: usize = 128;

/// See the module.
pub(super) struct Filter(jaq_core::Filter<Data>);

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// What cannot be read of it, and where.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let loops = load::parse(LOOPS, |parser| parser.defs()).unwrap_or_default();
        let defs = jaq_core::defs()
            .chain(loops)
            .chain(jaq_std::defs())
            .chain(jaq_json::defs());
        let arena = Arena::default();
        let file = File {
            code: text,
            path: (),
        };
        let modules = Loader::new(defs)
            .load(&arena, file)
            .map_err(|errors| unread(text, errors))?;
        Compiler::default()
            .with_funs(funs())
            .compile(modules)
            .map(Self)
            .map_err(undefined)
    }

    /// What it makes of a value: at most `most` values. Its loops end after 400 ms.
    ///
    /// # Errors
    /// Its own error, or too much of a result.
    pub(super) fn run(&self, value: Value, most: usize) -> Result<Vec<Value>, String> {
        END.set(Instant::now().checked_add(LIMIT));
        let context = Ctx::<Data>::new(&self.0.lut, Vars::new([]));
        let mut found = Vec::new();
        for result in self.0.id.run((context, of_json(value))).map(unwrap_valr) {
            if found.len() == most {
                return Err(format!("it gives more than {most} records"));
            }
            found.push(to_json(&result.map_err(|error| error.to_string())?, 0)?);
        }
        Ok(found)
    }
}

thread_local! {
    /// When the filter that runs on this thread has to be done.
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A value as it is, while the filter has time.
fn in_time(value: Val) -> Result<Val, Error> {
    match END.get() {
        Some(end) if Instant::now() >= end => Err(Error::str("a loop takes too long")),
        _ => Ok(value),
    }
}

fn funs() -> impl Iterator<Item = Fun<Data>> {
    let own = ["fromjson"].into_iter().chain(REFUSED);
    let kept = move |(name, _, _): &Fun<Data>| !own.clone().any(|own| own == *name);
    let all = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let arity = |name| v(usize::from(name == "halt"));
    let refused = REFUSED.map(|name| {
        run::<Data>((name, arity(name), |_| {
            bome(Err(Error::str("it depends on more than the record")))
        }))
    });
    // That of jaq has no bound on how deep it goes.
    let from_json = run::<Data>(("fromjson", v(0), |(_, value)| bome(read_text(&value))));
    let in_time = run::<Data>(("_in_time", v(0), |(_, value)| bome(in_time(value))));
    all.filter(kept).chain(refused).chain([from_json, in_time])
}

fn read_text(value: &Val) -> Result<Val, Error> {
    let Val::TStr(text) = value else {
        return Err(Error::str("fromjson: not text"));
    };
    serde_json::from_slice(text)
        .map(of_json)
        .map_err(|error| Error::str(format!("fromjson: {error}")))
}

/// What stands at a place of the filter, and where.
fn place(text: &str, found: &str) -> String {
    let at = (found.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    let shown: String = found.chars().take(20).collect();
    match text.get(..at) {
        _ if found.is_empty() => "at its end".to_owned(),
        Some(before) => format!("at character {}, {shown:?}", before.chars().count() + 1),
        None => format!("at {shown:?}"),
    }
}

fn unread(text: &str, errors: load::Errors<&str, ()>) -> String {
    let first = errors.into_iter().next().map(|(_, error)| error);
    let (expected, found) = match first {
        Some(load::Error::Lex(errors)) => match errors.into_iter().next() {
            Some((expected, found)) => (expected.as_str(), found),
            None => ("a filter", ""),
        },
        Some(load::Error::Parse(errors)) => match errors.into_iter().next() {
            Some((expected, found)) => (expected.as_str(), found),
            None => ("a filter", ""),
        },
        _ => return "it imports a module, which it may not".to_owned(),
    };
    format!("expected {expected} {}", place(text, found))
}

fn undefined(errors: compile::Errors<&str, ()>) -> String {
    let names = errors.into_iter().flat_map(|(_, errors)| errors);
    let names = names.map(|(name, kind)| match kind {
        compile::Undefined::Filter(arity) => format!("{name}/{arity}"),
        kind => format!("{} {name}", kind.as_str()),
    });
    let names: Vec<_> = names.collect();
    format!("it uses what is not defined: {}", names.join(", "))
}

fn of_json(value: Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(flag) => Val::Bool(flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Val::Num(Num::from_integral(number)),
            (None, Some(number)) => Val::Num(Num::from_integral(number)),
            _ => Val::Num(Num::Float(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Val::utf8_str(text),
        Value::Array(elements) => elements.into_iter().map(of_json).collect(),
        Value::Object(members) => Val::obj(
            members
                .into_iter()
                .map(|(key, value)| (Val::utf8_str(key), of_json(value)))
                .collect(),
        ),
    }
}

fn to_json(value: &Val, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("its result is nested deeper than {DEPTH_MAX}"));
    }
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(flag) => Value::Bool(*flag),
        Val::Num(number) => number_of(number),
        Val::TStr(text) | Val::BStr(text) => String::from_utf8_lossy(text).into_owned().into(),
        Val::Arr(elements) => {
            let elements = elements.iter().map(|element| to_json(element, depth + 1));
            Value::Array(elements.collect::<Result<_, _>>()?)
        }
        Val::Obj(members) => {
            let mut object = Map::new();
            for (key, value) in members.iter() {
                let Val::TStr(key) = key else {
                    return Err(format!("its result has the key {key}, which is not text"));
                };
                let key = String::from_utf8_lossy(key).into_owned();
                object.insert(key, to_json(value, depth + 1)?);
            }
            Value::Object(object)
        }
    })
}

/// A number; what JSON does not know as one is text that reads the same.
fn number_of(number: &Num) -> Value {
    match number {
        Num::Int(number) => Value::from(*number as i64),
        Num::Float(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| number.to_string().into(), Value::Number),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(filter: &str, value: Value) -> Result<Vec<Value>, String> {
        Filter::compile(filter)?.run(value, 10)
    }

    #[test]
    fn a_loop_ends_in_time_and_gives_what_it_gave() {
        for endless in [
            "[repeat(1)]",
            "[range(infinite)]",
            "[range(0; 1; 0)]",
            "until(false; . + 1)",
            "[while(true; . + 1)]",
            "last(recurse(. + 1))",
        ] {
            let wrong = run(endless, json!(0)).expect_err(endless);
            assert!(wrong.contains("too long"), "{endless}: {wrong}");
        }
        for (filter, due) in [
            ("[range(3)]", json!([0, 1, 2])),
            ("[range(1, 2; 3)]", json!([1, 2, 2])),
            (
                "[range(0, 1; 3, 4)]",
                json!([0, 1, 2, 0, 1, 2, 3, 1, 2, 1, 2, 3]),
            ),
            ("[range(4; 0; -2)]", json!([4, 2])),
            ("[limit(3; repeat(7))]", json!([7, 7, 7])),
            ("until(. > 4; . * 3)", json!(9)),
            ("[while(. < 9; . * 2)]", json!([1, 2, 4, 8])),
            ("[[1, [2]] | recurse]", json!([[1, [2]], 1, [2], 2])),
            ("[[1, [2]] | ..]", json!([[1, [2]], 1, [2], 2])),
            ("[recurse(. + 1; . < 4)]", json!([1, 2, 3])),
        ] {
            assert_eq!(run(filter, json!(1)), Ok(vec![due]), "{filter}");
        }
    }

    #[test]
    fn a_filter_gives_none_one_or_many_values() {
        let value =
            json!({"op": "c", "rows": [{"x": 1}, {"x": 2.5}], "text": "{\"y\": [true, null]}"});
        let found = run(".rows[] | .x += 1", value.clone());
        assert_eq!(found, Ok(vec![json!({"x": 2}), json!({"x": 3.5})]));
        assert_eq!(run("select(.op != \"c\")", value.clone()), Ok(vec![]));
        assert_eq!(
            run(".text | fromjson", value.clone()),
            Ok(vec![json!({"y": [true, null]})])
        );
        assert_eq!(
            run("nan, infinite", value),
            Ok(vec![json!("NaN"), json!("inf")])
        );
        assert_eq!(
            run(".", json!(18446744073709551615u64)).map(|v| v[0].to_string()),
            Ok("\"18446744073709551615\"".into())
        );
        assert_eq!(run("\"aGk=\" | @base64d", json!(1)), Ok(vec![json!("hi")]));
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_said_with_its_place() {
        for (filter, says) in [
            (".a | ", "expected term at its end"),
            (".a )", "at character 4, \")\""),
            ("nosuch(1)", "it uses what is not defined: nosuch/1"),
            ("$x", "variable $x"),
            ("\"a", "at"),
            ("import \"a\" as a; .", "module"),
        ] {
            let wrong = Filter::compile(filter).err().expect(filter);
            assert!(wrong.contains(says), "{filter}: {wrong}");
        }
    }

    #[test]
    fn results_are_bounded_and_depend_on_the_record_only() {
        for (filter, says) in [
            ("range(11)", "more than 10 records"),
            ("reduce range(200) as $i (0; [.])", "nested deeper"),
            ("now", "more than the record"),
            ("env", "more than the record"),
            ("halt", "more than the record"),
            ("error(\"no flow\")", "no flow"),
            (".a.b.c", "index"),
            ("\"[\" * 100000 | fromjson", "recursion"),
        ] {
            let wrong = run(filter, json!({"a": 5})).expect_err(filter);
            assert!(wrong.contains(says), "{filter}: {wrong}");
        }
    }
}
