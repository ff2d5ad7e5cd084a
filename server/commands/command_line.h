// The command line of elserve.
#ifndef ELSERVE_SERVER_COMMANDS_COMMAND_LINE_H_
#define ELSERVE_SERVER_COMMANDS_COMMAND_LINE_H_

namespace elserve {

// Runs the subcommand that argv names. The exit code: 0; 1 where the command failed; 2 for a bad command line.
int RunCommandLine(int argc, char** argv);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_COMMAND_LINE_H_
