// Presses the page's one button: what is to be registered has been chosen on the page before.
document.getElementById("go").submit();
