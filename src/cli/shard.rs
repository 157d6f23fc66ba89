//! The shard of a run: the one of `--shard`, or that of the engine that runs this program on several machines.

use super::values::Environment;
use crate::error::{Advice, Code, Error, Result};
use crate::push::Shard;

/// How an engine numbers the machines of a job.
struct Engine {
    name: &'static str,
    /// The variable with the number of this machine.
    index: &'static str,
    first: First,
    /// The variable with the number of machines. Without one, `--shards` has it.
    count: Option<&'static str>,
}

/// The number of the first machine.
enum First {
    Is(u64),
    /// In a variable, and the distance between two numbers in another.
    In(&'static str, &'static str),
}

const ENGINES: [Engine; 4] = [
    // https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
    Engine {
        name: "AWS Batch",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        first: First::Is(0),
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
    },
    // https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
    Engine { name: "Kubernetes", index: "JOB_COMPLETION_INDEX", first: First::Is(0), count: None },
    // https://slurm.schedmd.com/job_array.html
    Engine {
        name: "Slurm",
        index: "SLURM_ARRAY_TASK_ID",
        first: First::In("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
    },
    // https://docs.gitlab.com/ci/yaml/#parallel
    Engine { name: "GitLab", index: "CI_NODE_INDEX", first: First::Is(1), count: Some("CI_NODE_TOTAL") },
];

/// Reads `--shard` and `--shards`.
///
/// # Errors
/// If there is no such shard, or `auto` finds no engine.
pub(super) fn shard(text: Option<&str>, count: Option<u64>, environment: Environment<'_>) -> Result<Option<Shard>> {
    match (text, count) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::conflict("--shards needs --shard auto")
            .about_option("--shards")
            .hint(Advice::new("The engine numbers the machines").setting_with("shard", "auto"))),
        (Some("auto"), count) => automatic(count, environment).map(Some),
        (Some(_), Some(_)) => Err(Error::conflict("--shards is for --shard auto")
            .about_option("--shards")
            .about_option("--shard")
            .hint("Leave it out: --shard I/N has the number of shards.")),
        (Some(text), None) => text.parse().map(Some),
    }
}

fn automatic(count: Option<u64>, environment: Environment<'_>) -> Result<Shard> {
    let number = |name: &str| -> Result<Option<u64>> {
        let Some(value) = environment(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let parsed = value.to_str().and_then(|text| text.trim().parse().ok());
        parsed
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("{name} is not a number")).hint("It numbers the machines of a job."))
    };
    for engine in &ENGINES {
        let Some(index) = number(engine.index)? else { continue };
        let (first, step) = match engine.first {
            First::Is(first) => (first, 1),
            First::In(first, step) => (number(first)?.unwrap_or_default(), number(step)?.unwrap_or(1).max(1)),
        };
        let own = engine.count.map(number).transpose()?.flatten();
        if let (Some(own), Some(count)) = (own, count)
            && own != count
        {
            return Err(Error::conflict(format!("{} runs {own} machines, not {count}", engine.name))
                .hint("Leave out --shards, or run the job on so many machines: otherwise a part is not pushed."));
        }
        let Some(count) = count.or(own) else {
            return Err(Error::usage(format!("{} does not state how many machines there are", engine.name))
                .code(Code::ArgumentMissing)
                .hint(Advice::new("Give their number").setting_with("shards", "N")));
        };
        return index.checked_sub(first).and_then(|index| Shard::new(index / step, count)).ok_or_else(|| {
            Error::invalid(format!("{} is {index}, of {count} machines", engine.index))
                .hint("The number of shards must be that of all machines of the job.")
        });
    }
    let names: Vec<&str> = ENGINES.iter().map(|engine| engine.index).collect();
    Err(Error::usage("--shard auto found no engine")
        .about_option("--shard")
        .code(Code::ArgumentMissing)
        .because(format!("none of these variables is set: {}", names.join(", ")))
        .hint("Use --shard I/N, with I from 1 to N."))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read(text: &str, count: Option<u64>, variables: &[(&str, &str)]) -> Result<String> {
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        shard(Some(text), count, &environment).map(|shard| shard.map(|shard| shard.to_string()).unwrap_or_default())
    }

    #[test]
    fn every_engine_numbers_its_machines() {
        let auto = |count, variables: &[(&str, &str)]| read("auto", count, variables).unwrap();
        assert_eq!(auto(None, &[("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "4")]), "1/4");
        assert_eq!(auto(Some(5), &[("JOB_COMPLETION_INDEX", "4")]), "5/5");
        assert_eq!(auto(None, &[("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "2")]), "2/2");
        let slurm = [("SLURM_ARRAY_TASK_ID", "12"), ("SLURM_ARRAY_TASK_MIN", "10"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert_eq!(auto(None, &slurm), "3/4");
        let steps = [&slurm[1..], &[("SLURM_ARRAY_TASK_ID", "14"), ("SLURM_ARRAY_TASK_STEP", "2")]].concat();
        assert_eq!(auto(None, &steps), "3/4");
        assert_eq!(read("2/3", None, &[]).unwrap(), "2/3");
    }

    #[test]
    fn what_cannot_be_a_shard_is_an_error_that_names_the_variable() {
        let refused = |count, variables: &[(&str, &str)], part: &str| {
            let error = read("auto", count, variables).unwrap_err();
            let text = format!("{error} {} {}", error.causes().join(" "), error.advice().cloned().unwrap_or_default());
            assert!(text.contains(part), "{text}");
        };
        refused(None, &[], "AWS_BATCH_JOB_ARRAY_INDEX, JOB_COMPLETION_INDEX, SLURM_ARRAY_TASK_ID, CI_NODE_INDEX");
        refused(None, &[("JOB_COMPLETION_INDEX", "0")], "--shards N");
        refused(None, &[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "2")], "CI_NODE_INDEX is 0, of 2 machines");
        refused(None, &[("CI_NODE_INDEX", "3"), ("CI_NODE_TOTAL", "2")], "CI_NODE_INDEX is 3, of 2 machines");
        refused(Some(4), &[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "2")], "GitLab runs 2 machines, not 4");
        refused(None, &[("CI_NODE_INDEX", "x")], "CI_NODE_INDEX is not a number");
        assert!(shard(None, Some(2), &|_| None).is_err() && read("1/2", Some(2), &[]).is_err());
    }
}
