using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using LicenseManager.Client;

/// <summary>Reads one JSON object a line, does what it says, and writes one JSON object a line.</summary>
internal static class Program
{
    private static void Main()
    {
        var input = new StreamReader(Console.OpenStandardInput(), new UTF8Encoding(false));
        var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)) { AutoFlush = true };
        var conversation = new Conversation();
        for (string line = input.ReadLine(); line != null; line = input.ReadLine())
        {
            output.WriteLine(Answer(conversation, JsonReader.ParseObject(line)));
        }
    }

    private static string Answer(Conversation conversation, Dictionary<string, object> command)
    {
        try
        {
            return command.ContainsKey("client") ? CaseRunner.Run(command) : conversation.Do(command);
        }
        catch (Exception error)
        {
            // The tests look at it: an argument at fault is to throw, and nothing else.
            return new JsonWriter().Begin('{').Member("threw", error.GetType().Name).Member("message", error.Message).End('}').ToString();
        }
    }
}
