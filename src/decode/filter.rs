//! A filter in the jq language, compiled once (by `jaq`, whose values are not shared between threads).

mod guard;
mod value;

use jaq_core::data::JustLut;
use jaq_core::load::parse::Def;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{bome, run, v};
use jaq_core::{Compiler, Ctx, Vars, compile, unwrap_valr};
use jaq_json::Val;
use serde_json::Value;

use self::value::{of_json, to_json};

type Data = JustLut<Val>;
type Fun = jaq_core::native::Fun<Data>;
type Error = jaq_core::Error<Val>;

/// Filters that are refused: the same record has to give the same result at any time and on any
/// machine.
const REFUSED: [&str; 3] = ["now", "env", "halt"];
/// See the module.
pub(super) struct Filter(jaq_core::Filter<Data>);

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// What cannot be read of it, and where.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let arena = Arena::default();
        let file = |code| File { code, path: () };
        // For its errors, which have their place in the text; what is compiled has guards in it.
        Loader::new([])
            .load(&arena, file(text))
            .map_err(|errors| unread(text, errors))?;
        let term = load::parse(text, |parser| parser.term());
        let term = term.ok_or("it declares or imports a module, which it may not")?;
        let body = Def {
            name: "_filter",
            args: Vec::new(),
            body: guard::guarded(term),
        };
        let modules = Loader::new(defs().into_iter().chain([body]))
            .load(&arena, file("_filter"))
            .map_err(|errors| unread(text, errors))?;
        Compiler::default()
            .with_funs(funs())
            .compile(modules)
            .map(Self)
            .map_err(undefined)
    }

    /// What it makes of a value: at most `most` values.
    ///
    /// # Errors
    /// Its own error, or too much of a result, of time, of memory or of its own calls.
    pub(super) fn run(&self, value: Value, most: usize) -> Result<Vec<Value>, String> {
        guard::begin();
        let context = Ctx::<Data>::new(&self.0.lut, Vars::new([]));
        let (mut found, mut left) = (Vec::new(), value::SIZE_MAX);
        for result in self.0.id.run((context, of_json(value))).map(unwrap_valr) {
            guard::bounded()?;
            if found.len() == most {
                return Err(format!("it gives more than {most} records"));
            }
            let result = result.map_err(|error| error.to_string())?;
            found.push(to_json(&result, &mut left)?);
        }
        guard::bounded()?;
        Ok(found)
    }
}

/// What jq has without a definition in the filter.
fn defs() -> Vec<Def<&'static str>> {
    let own = load::parse(guard::DEFS, |parser| parser.defs()).unwrap_or_default();
    let is_own = |def: &Def<&str>| {
        let same = |own: &Def<&str>| own.name == def.name && own.args.len() == def.args.len();
        own.iter().any(same)
    };
    let of_jaq = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    let of_jaq = of_jaq.filter(|def| !is_own(def)).map(guard::steps_guarded);
    let of_jaq: Vec<_> = of_jaq.collect();
    own.into_iter().chain(of_jaq).collect()
}

fn funs() -> impl Iterator<Item = Fun> {
    let own = ["fromjson"].into_iter().chain(REFUSED);
    let kept = move |(name, _, _): &Fun| !own.clone().any(|own| own == *name);
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
    all.filter(kept)
        .chain(refused)
        .chain([from_json])
        .chain(guard::funs())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::worker::STACK;
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
    fn no_function_takes_more_time_stack_or_memory_than_it_may() {
        for (filter, says) in [
            ("def f: f; f", "a loop takes too long"),
            ("def f: [f]; f", "call themselves too often"),
            ("def f: 1 + f; f", "call themselves too often"),
            ("def f: def g: f; 1 + g; f", "call themselves too often"),
            ("def f(g): [g, f(g)]; f(1)", ""),
            // An error of a bound is not one that a filter can catch.
            ("def f: 1 + f; try f catch 0", "call themselves too often"),
            ("(def f: 1 + f; f)?, 5", "call themselves too often"),
            (
                "[limit(1; range(infinite) | select(. < 0))] // 1",
                "a loop takes too long",
            ),
            ("\"ab\" * 1000000000000", "too much memory"),
            ("1000000000000 * \"ab\"", "too much memory"),
            (".text * .scale", "too much memory"),
            (".text *= 1000000000000", "too much memory"),
            (".text |= . * 1000000000000 | .text", "too much memory"),
            ("reduce range(60) as $i (\"x\"; . + .)", "too much memory"),
            ("reduce range(60) as $i ([1]; . + .)", "too much memory"),
            ("reduce range(60) as $i (3; . * .)", "too much memory"),
            (
                "last(foreach range(60) as $i (\"x\"; [.[], .[]]? // . + .))",
                "too much memory",
            ),
            ("[range(40)] | reduce .[] as $i (0; [., .])", "more than"),
            ("reduce range(40) as $i (0; [., .]) | [..]", ""),
            ("[range(40)] | map([0, 1]) | [combinations]", ""),
        ] {
            let value = json!({"text": "Error!", "scale": 1000000000000_u64, "x": {}});
            let wrong = run_on_stack(filter, value).expect_err(filter);
            // On a slow machine the time may end first.
            let is_bounded = wrong.contains(says) || wrong.contains("a loop takes too long");
            assert!(is_bounded, "{filter}: {wrong}");
        }
    }

    #[test]
    fn guards_change_no_result() {
        for (filter, due) in [
            ("[(1, 2) * (10, 20)]", json!([10, 20, 20, 40])),
            ("[(1, 2) + (10, 20)]", json!([11, 21, 12, 22])),
            (
                "[\"ab\" * 2, 3 * \"c\", \"a\" * 0]",
                json!(["abab", "ccc", null]),
            ),
            ("{a: {b: 1}} * {a: {c: 2}}", json!({"a": {"b": 1, "c": 2}})),
            ("{a: [1, 2]} | .a[] *= 3", json!({"a": [3, 6]})),
            ("[{a: 2} | .a *= (3, 4)]", json!([{"a": 6}, {"a": 8}])),
            ("[[1, [2]] | paths]", json!([[0], [1], [1, 0]])),
            ("[1, [2]] | (.. | numbers) |= . + 1", json!([2, [3]])),
            ("[[1, {\"a\": 2}] | .. | numbers]", json!([1, 2])),
            ("[path(recurse)]", json!([[]])),
            (
                "def fac: if . < 2 then 1 else . * (. - 1 | fac) end; 20 | fac",
                json!(2432902008176640000_u64),
            ),
            ("def f(g): reduce range(3) as $i (0; . + g); f(2)", json!(6)),
            (
                "[foreach (1, 2, 3) as $x (0; . + $x; [$x, .])]",
                json!([[1, 1], [2, 3], [3, 6]]),
            ),
            (
                "[1, [2, [3]]] | walk(if type == \"number\" then . * 2 else . end)",
                json!([2, [4, [6]]]),
            ),
            ("{\"a\": 1} as {a: $x} | \"\\($x * 2)\"", json!("2")),
            (
                "def down: if . > 0 then . - 1 | down else . end; 1000 | down",
                json!(0),
            ),
            (
                "[1, 2] | combinations(2) | select(. == [2, 1])",
                json!([2, 1]),
            ),
        ] {
            assert_eq!(run(filter, json!(1)), Ok(vec![due]), "{filter}");
        }
    }

    /// On a thread like those of filters.
    fn run_on_stack(filter: &str, value: Value) -> Result<Vec<Value>, String> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let thread = thread.spawn_scoped(scope, || run(filter, value));
            thread.unwrap().join().unwrap()
        })
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
